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
async fn passes_input_to_a_command_and_returns_its_code_and_output() {
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
async fn truncates_output_without_blocking_the_command() {
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
async fn kills_what_a_command_leaves_behind_at_its_end_and_at_its_limit() {
    let world = World::new();
    let caller = world.caller().await;
    // Fractions of a second that no other run uses: the processes are looked for on the whole machine.
    let sleep = |n: u32| format!("sleep {n}.{}", std::process::id());
    let orphan = |n: u32| format!("setsid -f env -i {}", sleep(n));
    // Far less than a sleep, and than the limit of the first command.
    let in_time = async |exec: &Exec| {
        let started = SystemClock.now();
        let done = run(&caller, exec).await;
        assert!(SystemClock.now().since(started) < Duration::from_secs(100), "{done:?}");
        done
    };
    // One in the background with the output open, one orphaned in another session without environment.
    let mut exec = shell(&format!("{} & {}; echo done", sleep(631), orphan(632)));
    exec.limit_ms = 200_000;
    let done = in_time(&exec).await;
    assert_eq!((done.exit_code, text(&done.stdout).as_str()), (Some(0), "done\n"));
    let mut exec = shell(&format!("{}; echo begun; {}", orphan(633), sleep(634)));
    let mut said = String::new();
    // On a busy machine the command may not have begun when a short limit passes.
    for limit_ms in [500, 4_000, 20_000] {
        exec.limit_ms = limit_ms;
        let done = in_time(&exec).await;
        assert_eq!((done.exit_code, done.timed_out), (None, true));
        said = text(&done.stdout);
        if !said.is_empty() {
            break;
        }
    }
    assert_eq!(said, "begun\n");
    let left: Vec<String> = [631, 632, 633, 634].map(sleep).to_vec();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines: Vec<String> =
        all.filter_map(|e| e.file_name().to_str()?.parse().ok()).map(crate::world::command_line).collect();
    assert!(!lines.iter().any(|line| left.contains(&line.trim().to_owned())), "{lines:?}");
}

#[tokio::test]
async fn ends_a_command_when_its_caller_disconnects() {
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
        gone("every process of the command exits", process).await;
    }
}

#[tokio::test]
async fn refuses_a_seventeenth_command() {
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
    // The callers have disconnected, so commands run again.
    eventually("there is room", async || {
        caller.post("/v1/exec", &shell("true")).await.status.is_success().then_some(())
    })
    .await;
}

#[tokio::test]
async fn lists_the_processes_of_its_own_sandbox_only() {
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
