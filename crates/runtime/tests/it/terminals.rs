use std::collections::BTreeMap;

use foundry_sandbox::wire::{TerminalStart, TerminalStarted};
use serde_json::json;

use crate::caller::Caller;
use crate::world::{World, eventually, gone};

fn shell(script: &str) -> TerminalStart {
    TerminalStart {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        cwd: None,
        rows: 24,
        cols: 80,
    }
}

async fn open(caller: &Caller, start: &TerminalStart) -> String {
    caller.post("/v1/terminals", start).await.ok::<TerminalStarted>().terminal
}

/// Reads until the output holds this, or the command has ended.
async fn until(caller: &Caller, terminal: &str, part: &str) -> (String, Option<u64>) {
    let mut all = Vec::new();
    loop {
        let path = format!("/v1/terminals/{terminal}/output?offset={}&wait_ms=20000", all.len());
        let answer = caller.get(&path).await;
        assert_eq!(answer.number("x-offset"), all.len() as u64);
        all.extend_from_slice(answer.raw());
        let text = String::from_utf8_lossy(&all).into_owned();
        let ended = answer.headers.contains_key("x-ended").then(|| answer.number("x-ended"));
        if ended.is_some() || text.contains(part) {
            return (text, ended);
        }
    }
}

#[tokio::test]
async fn a_shell_on_a_terminal_has_a_size_takes_input_and_ends_with_its_code() {
    let world = World::new();
    let caller = world.caller().await;
    let script = "stty size; read -r line; echo \"got $line\"; read -r line; stty size; exit 5";
    let terminal = open(&caller, &shell(script)).await;
    let (text, ended) = until(&caller, &terminal, "24 80").await;
    assert!(text.contains("24 80") && ended.is_none(), "{text}");
    caller.call("POST", &format!("/v1/terminals/{terminal}/input"), "hello\r").await.raw();
    let (text, _) = until(&caller, &terminal, "got hello").await;
    assert!(text.contains("got hello"), "{text}");
    caller.post(&format!("/v1/terminals/{terminal}/size"), &json!({"rows": 40, "cols": 100})).await.raw();
    caller.call("POST", &format!("/v1/terminals/{terminal}/input"), "\r").await.raw();
    let (text, ended) = until(&caller, &terminal, "no such words").await;
    assert!(text.contains("40 100"), "{text}");
    assert_eq!(ended, Some(5));
    caller.call("POST", &format!("/v1/terminals/{terminal}/input"), "x").await.is(409, "agent_ended");
    caller.delete(&format!("/v1/terminals/{terminal}")).await.raw();
    caller.get(&format!("/v1/terminals/{terminal}/output")).await.is(404, "not_found");
}

#[tokio::test]
async fn an_interactive_shell_has_job_control() {
    let world = World::new();
    let caller = world.caller().await;
    let start = TerminalStart { argv: vec!["sh".into(), "-i".into()], ..shell("") };
    let terminal = open(&caller, &start).await;
    // Ctrl-C ends the foreground command and not the shell.
    caller.call("POST", &format!("/v1/terminals/{terminal}/input"), "echo be''gun; sleep 671\r").await.raw();
    until(&caller, &terminal, "begun").await;
    eventually("it sleeps", async || (!world.running("sleep 671").is_empty()).then_some(())).await;
    caller.call("POST", &format!("/v1/terminals/{terminal}/input"), "\u{3}").await.raw();
    caller.call("POST", &format!("/v1/terminals/{terminal}/input"), "echo al''ive\r").await.raw();
    let (text, ended) = until(&caller, &terminal, "alive").await;
    assert!(text.contains("alive") && ended.is_none(), "{text}");
    assert!(!text.contains("job control turned off"), "{text}");
}

#[tokio::test]
async fn a_program_that_handles_the_interrupt_key_keeps_running() {
    let world = World::new();
    let caller = world.caller().await;
    let script = "trap 'echo caught' INT; echo ready; while :; do read -r line && echo \"got $line\"; done";
    let terminal = open(&caller, &shell(script)).await;
    until(&caller, &terminal, "ready").await;
    caller.call("POST", &format!("/v1/terminals/{terminal}/input"), "\u{3}").await.raw();
    until(&caller, &terminal, "caught").await;
    caller.call("POST", &format!("/v1/terminals/{terminal}/input"), "more\r").await.raw();
    let (text, ended) = until(&caller, &terminal, "got more").await;
    assert!(text.contains("got more") && ended.is_none(), "{ended:?} {text}");
}

#[tokio::test]
async fn closing_a_terminal_ends_its_process_tree() {
    let world = World::new();
    let caller = world.caller().await;
    let terminal = open(&caller, &shell("trap '' HUP TERM; setsid -f env -i sleep 681; sleep 682")).await;
    eventually("it runs", async || (world.running("sleep 68").len() >= 3).then_some(())).await;
    let all = world.running("sleep 68");
    caller.delete(&format!("/v1/terminals/{terminal}")).await.raw();
    for process in &all {
        gone("every process of the terminal exits", process).await;
    }
    caller.delete("/v1/terminals/t99").await.raw();
}

#[tokio::test]
async fn limits_open_terminals_and_drops_ended_ones_first() {
    let world = World::new();
    let caller = world.caller().await;
    let ended = open(&caller, &shell("exit 0")).await;
    assert_eq!(until(&caller, &ended, "no such words").await.1, Some(0));
    for _ in 0..8 {
        open(&caller, &shell("sleep 691")).await;
    }
    caller.get(&format!("/v1/terminals/{ended}/output")).await.is(404, "not_found");
    caller.post("/v1/terminals", &shell("sleep 691")).await.is(503, "busy");
    let flat = TerminalStart { rows: 0, ..shell("true") };
    caller.post("/v1/terminals", &flat).await.is(400, "invalid");
}
