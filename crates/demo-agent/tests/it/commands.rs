//! Instructions that run commands.

use std::time::Duration;

use foundry_core::SystemClock;
use foundry_demo_agent::DemoOptions;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::client::{Client, Instantly, options};

/// Returns once a process has exited; one that stays makes the test fail. It waits on a pidfd and does not poll.
fn gone(pid: &str) {
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ended, 1, "process {pid:?} is still alive");
}

#[tokio::test]
async fn runs_a_command_in_the_working_directory_and_streams_its_output() {
    let mut client = Client::start().await;
    client.put("here.txt", "");
    let turn = client.turn("run ls; echo err >&2").await;
    assert_eq!(
        turn.summary()[3..],
        [
            "call-1 execute: Run `ls; echo err >&2`",
            "call-1 in_progress",
            "call-1 in_progress \"here.txt\\n\"",
            "call-1 in_progress \"here.txt\\nerr\\n\"",
            "call-1 completed \"here.txt\\nerr\\nExit status 0.\"",
            "plan x",
            "says: Done: one command run.",
        ]
    );
}

#[tokio::test]
async fn shows_output_while_the_command_still_runs() {
    let mut client = Client::start().await;
    let fifo = client.dir.path().join("go");
    client.turn("run mkfifo go").await;
    let id = client.prompt("run echo first; cat go").await;
    client.receive_until(|m| m.to_string().contains("first\\n")).await;
    // The command reads the pipe and ends only now, after its first line was seen.
    tokio::fs::write(&fifo, "second\n").await.unwrap();
    let summary = client.answer_to(id).await.summary();
    assert!(
        summary.iter().any(|t| t.contains("completed \"first\\nsecond\\nExit status 0.\"")),
        "{summary:?}"
    );
}

#[tokio::test]
async fn reports_how_a_command_failed_and_goes_on() {
    let mut client = Client::start().await;
    let turn = client.turn("run exit 3\nrun kill -9 $$\nrun no-such-command\nsay on").await;
    let summary = turn.summary();
    for wanted in
        ["call-1 failed \"Exit status 3.\"", "call-2 failed \"Ended by signal 9.\"", "Exit status 127."]
    {
        assert!(summary.iter().any(|t| t.contains(wanted)), "{wanted}: {summary:#?}");
    }
    assert_eq!(turn.stop_reason(), "end_turn");
    let raw = turn.updates.iter().map(|u| &u["params"]["update"]["rawOutput"]).find(|r| r.is_object());
    assert_eq!(raw.unwrap()["exitCode"], 3);
}

#[tokio::test]
async fn kills_the_whole_process_group_when_the_turn_is_cancelled() {
    // The shell and its child both ignore SIGTERM, and get no grace.
    let options = DemoOptions { command_grace: Duration::ZERO, ..options(SystemClock) };
    let mut client = Client::start_with(options).await;
    client.put(
        "stubborn.sh",
        "trap '' TERM\nsleep 1000 &\necho $! > child\necho $$ > shell\necho up\nwait\nsleep 1000\n",
    );
    let id = client.prompt("run exec sh stubborn.sh\nsay never").await;
    client.receive_until(|m| m.to_string().contains("up\\n")).await;
    client.cancel().await;
    let turn = client.answer_to(id).await;
    assert_eq!(turn.stop_reason(), "cancelled");
    let summary = turn.summary();
    assert!(
        summary.last().unwrap().contains("failed \"up\\nStopped: the turn was cancelled.\""),
        "{summary:?}"
    );
    gone(&client.file("child"));
    gone(&client.file("shell"));
}

#[tokio::test]
async fn stops_a_command_at_its_time_limit_and_goes_on() {
    let mut client = Client::start_with(options(Instantly)).await;
    let turn = client.turn("run echo $$ > pid; sleep 1000\nsay on").await;
    let summary = turn.summary();
    assert!(summary.iter().any(|t| t.contains("failed") && t.contains("the time limit")), "{summary:?}");
    assert!(turn.said().starts_with("on"));
}

#[tokio::test]
async fn leaves_nothing_running_in_the_background_after_a_command() {
    // It does not take the grace either: the background process is ended, not waited for.
    let grace = Duration::from_secs(3600);
    let mut client = Client::start_with(DemoOptions { command_grace: grace, ..options(SystemClock) }).await;
    let turn = client.turn("run sleep 1000 & echo $! > pid; echo started").await;
    assert!(turn.summary().iter().any(|t| t.contains("completed \"started\\nExit status 0.\"")));
    gone(&client.file("pid"));
}

#[tokio::test]
async fn does_not_wait_for_what_left_its_group_and_keeps_the_output_open() {
    let grace = Duration::from_millis(1);
    let mut client = Client::start_with(DemoOptions { command_grace: grace, ..options(SystemClock) }).await;
    let turn = client
        .turn("run setsid sh -c 'echo $$ > pid; sleep 1000' & until test -s pid; do :; done; echo out")
        .await;
    assert_eq!(turn.stop_reason(), "end_turn");
    assert!(turn.summary().iter().any(|t| t.contains("Exit status 0.")), "{:?}", turn.summary());
    // It is this test's own process, named by the number it wrote itself.
    let pid = client.file("pid");
    assert!(std::process::Command::new("kill").arg("-9").arg(pid.trim()).status().unwrap().success());
    gone(&pid);
}

#[tokio::test]
async fn kills_running_commands_when_the_client_goes() {
    let mut client = Client::start().await;
    let id = client.prompt("run echo $$ > pid; echo up; sleep 1000").await;
    client.receive_until(|m| m.to_string().contains("up\\n")).await;
    let pid = client.file("pid");
    client.hang_up();
    assert_eq!(client.answer_to(id).await.stop_reason(), "cancelled");
    assert_eq!(client.ended().await.status(), 0);
    gone(&pid);
}

#[tokio::test]
async fn gives_commands_no_input_and_bounds_what_it_shows_of_their_output() {
    let mut client = Client::start().await;
    let turn = client.turn("run cat; yes | head -c 2000000").await;
    assert_eq!(turn.stop_reason(), "end_turn");
    let sent: usize = turn.updates.iter().map(|u| u.to_string().len()).sum();
    assert!(sent < 1 << 20, "{sent} bytes were sent");
    assert!(turn.summary().iter().any(|t| t.contains("bytes left out")));
}
