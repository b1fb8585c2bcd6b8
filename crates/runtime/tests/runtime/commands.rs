use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use foundry_core::{Clock as _, SystemClock};
use foundry_sandbox::ProcessListing;
use foundry_sandbox::wire::{Exec, ExecDone};

use crate::caller::Caller;
use crate::world::{World, eventually, gone};

fn shell(script: &str) -> Exec {
    Exec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        limit_ms: 20_000,
        max_output: 1_000,
        ..Exec::default()
    }
}

async fn run(caller: &Caller, exec: &Exec) -> ExecDone {
    caller.post("/v1/exec", exec).await.ok()
}

fn text(base64: &str) -> String {
    String::from_utf8(BASE64_STANDARD.decode(base64).unwrap()).unwrap()
}

#[tokio::test]
async fn gives_code_output_and_input_of_a_command() {
    let world = World::new();
    let caller = world.caller().await;
    let mut exec = shell("cat; echo $NAME; echo oops >&2; pwd; exit 3");
    exec.stdin = BASE64_STANDARD.encode("hello ");
    exec.env.insert("NAME".into(), "you".into());
    let done = run(&caller, &exec).await;
    assert_eq!((done.exit_code, done.timed_out), (Some(3), false));
    assert_eq!(text(&done.stdout), format!("hello you\n{}\n", world.work().display()));
    assert_eq!(text(&done.stderr), "oops\n");
    assert_eq!(run(&caller, &shell("kill -9 $$")).await.exit_code, Some(137));
    // A signal to its whole group reaches neither its parent nor the runtime.
    assert_eq!(run(&caller, &shell("kill -9 0")).await.exit_code, Some(137));
    exec.argv = vec!["no-such-program".into()];
    let detail = caller.post("/v1/exec", &exec).await.is(422, "start_failed");
    assert!(detail.contains("no-such-program"));
    exec.limit_ms = 0;
    caller.post("/v1/exec", &exec).await.is(400, "invalid");
    let big = Exec { stdin: BASE64_STANDARD.encode(vec![0; (1 << 20) + 1]), ..shell("cat") };
    caller.post("/v1/exec", &big).await.is(413, "too_large");
}

#[tokio::test]
async fn keeps_the_first_of_much_output_and_lets_the_command_say_it_all() {
    let world = World::new();
    let caller = world.caller().await;
    let script = "head -c 3000000 /dev/zero | tr '\\0' x; printf 123 >&2";
    let done = run(&caller, &shell(script)).await;
    assert_eq!((done.exit_code, done.stdout_truncated, done.stderr_truncated), (Some(0), true, false));
    assert_eq!((text(&done.stdout), text(&done.stderr)), ("x".repeat(1_000), "123".to_owned()));
    let exact = Exec { max_output: 3, ..shell("printf 123") };
    assert!(!run(&caller, &exact).await.stdout_truncated);
}

#[tokio::test]
async fn ends_all_that_a_command_started_at_its_end_and_at_its_limit() {
    let world = World::new();
    let caller = world.caller().await;
    // In the background with the output open, and out of session, parent and environment.
    let started = SystemClock.now();
    let done = run(&caller, &shell("sleep 631 & setsid -f env -i sleep 632; echo done")).await;
    assert_eq!((done.exit_code, text(&done.stdout).as_str()), (Some(0), "done\n"));
    let mut exec = shell("setsid -f env -i sleep 633; echo begun; sleep 634");
    exec.limit_ms = 500;
    let done = run(&caller, &exec).await;
    assert_eq!((done.exit_code, done.timed_out, text(&done.stdout).as_str()), (None, true, "begun\n"));
    assert!(SystemClock.now().since(started) < Duration::from_secs(15));
    let left: Vec<String> = ["631", "632", "633", "634"].map(|n| format!("sleep {n}")).to_vec();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines: Vec<String> =
        all.filter_map(|e| e.file_name().to_str()?.parse().ok()).map(crate::world::command_line).collect();
    assert!(!lines.iter().any(|line| left.contains(&line.trim().to_owned())), "{lines:?}");
}

#[tokio::test]
async fn ends_a_command_whose_caller_went_away() {
    let world = World::new();
    let caller = world.caller().await;
    let exec = shell("setsid -f env -i sleep 641; sleep 642");
    let running = async {
        eventually("it runs", async || (world.running("sleep 64").len() >= 3).then_some(())).await;
        world.running("sleep 64")
    };
    let all = tokio::select! {
        done = run(&caller, &exec) => panic!("{done:?}"),
        all = running => all,
    };
    for process in &all {
        gone("a process of the command is left", process).await;
    }
}

#[tokio::test]
async fn runs_so_many_commands_at_once_and_no_more() {
    let world = World::new();
    let caller = world.caller().await;
    let exec = Exec { limit_ms: 60_000, ..shell("sleep 651") };
    let all = futures::future::join_all((0..16).map(|_| run(&caller, &exec)));
    let refused = async {
        eventually("they run", async || {
            let exact =
                |p: &foundry_sandbox::ProcessRef| crate::world::command_line(p.pid).trim() == "sleep 651";
            (world.running("sleep 651").iter().filter(|p| exact(p)).count() == 16).then_some(())
        })
        .await;
        caller.post("/v1/exec", &exec).await.is(503, "busy");
    };
    tokio::select! {
        done = all => panic!("{done:?}"),
        () = refused => {}
    }
    // Their callers are gone, so there is room again.
    eventually("there is room", async || {
        caller.post("/v1/exec", &shell("true")).await.status.is_success().then_some(())
    })
    .await;
}

#[tokio::test]
async fn lists_its_own_processes_and_nobody_elses() {
    let world = World::new();
    let other = World::new();
    let caller = world.caller().await;
    let exec = shell("sleep 661");
    let list = async {
        eventually("it is listed", async || {
            let listing: ProcessListing = caller.get("/v1/processes").await.ok();
            listing.processes.iter().any(|p| p.command == "sleep 661").then_some(listing)
        })
        .await
    };
    let listing = tokio::select! {
        done = run(&caller, &exec) => panic!("{done:?}"),
        listing = list => listing,
    };
    let pids: Vec<i32> = listing.processes.iter().map(|p| p.pid).collect();
    assert!(pids.contains(&world.pid()) && !pids.contains(&other.pid()) && !pids.contains(&1), "{pids:?}");
    let text = serde_json::to_string(&listing).unwrap();
    assert!(!listing.truncated && !text.contains(world.key.expose()));
}
