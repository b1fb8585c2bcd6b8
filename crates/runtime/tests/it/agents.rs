use std::collections::BTreeMap;

use foundry_sandbox::Direction;
use foundry_sandbox::tap::record::Entry;
use foundry_sandbox::wire::{AgentStart, Agents, Outcome};
use serde_json::json;

use crate::talk::{Talk, answers, asks, prompt, scripted, started_as, words};
use crate::world::{World, eventually, gone};

fn directions(entries: &[Entry]) -> Vec<Direction> {
    let direction = |entry: &Entry| match entry {
        Entry::Message { dir, .. } => Some(*dir),
        _ => None,
    };
    entries.iter().filter_map(direction).collect()
}

#[tokio::test]
async fn records_a_turn_in_both_directions_under_the_instance_that_started_the_agent() {
    let world = World::new();
    let (mut talk, started) = Talk::start(&world.caller().await, "agt_1", &scripted("run1/1")).await;
    assert!(started.started);
    let entries = talk.turn("m1", "hello").await;
    assert!(matches!(&entries[0], Entry::Instance { runtime_instance, agent, pid }
        if runtime_instance == "run1" && agent == "scripted" && pid.cast_signed() == started.pid));
    let (to, from) = (Direction::ToAgent, Direction::FromAgent);
    assert_eq!((directions(&entries), words(&entries)), (vec![to, from, from], "hello".to_owned()));
}

#[tokio::test]
async fn finds_the_agent_of_the_same_attempt_and_replaces_that_of_another() {
    let world = World::new();
    let caller = world.caller().await;
    let (mut talk, first) = Talk::start(&caller, "agt_1", &scripted("run1/1")).await;
    talk.turn("m1", "hello").await;
    let (_, again) = Talk::start(&caller, "agt_1", &scripted("run1/1")).await;
    assert_eq!((again.pid, again.log_offset, again.started), (first.pid, first.log_offset, false));
    let (mut talk, second) = Talk::start(&caller, "agt_1", &scripted("run1/2")).await;
    assert!(second.started && second.pid != first.pid);
    let entries = talk.turn("m2", "back again").await;
    assert!(matches!(entries[0], Entry::Instance { .. }), "its own part of the log: {entries:?}");
    let agents: Agents = caller.get("/v1/agents").await.ok();
    let [agent] = agents.agents.as_slice() else { panic!("{agents:?}") };
    assert_eq!((agent.pid, agent.attempt.as_str(), agent.running), (second.pid, "run1/2", true));
    assert_eq!(world.running("scripted-agent").len(), 1);
}

#[tokio::test]
async fn reports_how_an_agent_ended_until_it_is_replaced() {
    let world = World::new();
    let caller = world.caller().await;
    let (mut talk, first) = Talk::start(&caller, "agt_1", &scripted("run1/1")).await;
    talk.turn("m1", "complain no-credits").await;
    assert_eq!(talk.tell(&prompt("m2", "crash 3")).await, Outcome::PassedOn);
    let last = talk.until(|e| matches!(e, Entry::Exit { .. })).await;
    assert_eq!(last.last(), Some(&Entry::Exit { code: Some(3), signal: None }));
    let detail = eventually("the runtime knows", async || {
        let answer = caller.tell("agt_1", &prompt("m3", "hello")).await;
        Some(answer.is(409, "agent_ended")).filter(|detail| detail.contains("exited"))
    })
    .await;
    assert!(detail.contains("code 3") && detail.contains("no-credits"), "{detail}");
    let agents: Agents = caller.get("/v1/agents").await.ok();
    assert_eq!((agents.agents[0].running, agents.agents[0].exit_code), (false, Some(3)));
    // The same attempt again: that one's process has ended, so a new one is started.
    let (mut talk, second) = Talk::start(&caller, "agt_1", &scripted("run1/1")).await;
    assert!(second.started && second.pid != first.pid && second.log_offset > first.log_offset);
    assert_eq!(talk.says("m4", "back again").await, "back again");
    caller.delete("/v1/agents/agt_1").await.raw();
    caller.tell("agt_1", &prompt("m5", "hello")).await.is(404, "not_found");
}

#[tokio::test]
async fn names_what_is_wrong_with_a_start_and_leaves_the_running_agent_alone() {
    let world = World::new();
    let caller = world.caller().await;
    let (mut talk, _) = Talk::start(&caller, "agt_1", &scripted("run1/1")).await;
    let missing = started_as("run1/2", &["no-such-program"]);
    let detail = caller.put("/v1/agents/agt_1", &missing).await.is(422, "start_failed");
    assert!(detail.contains("no-such-program"), "{detail}");
    let nowhere = AgentStart { cwd: Some("/no/such/directory".into()), ..scripted("run1/2") };
    caller.put("/v1/agents/agt_1", &nowhere).await.is(422, "start_failed");
    let modelless = AgentStart {
        env: BTreeMap::from([("URL".to_owned(), "${FOUNDRY_MODEL_URL}".to_owned())]),
        ..scripted("run1/2")
    };
    caller.put("/v1/agents/agt_1", &modelless).await.is(422, "start_failed");
    caller.put("/v1/agents/agt_1", &scripted("")).await.is(400, "invalid");
    caller.put("/v1/agents/..", &scripted("x")).await.is(400, "invalid");
    assert_eq!(talk.says("m1", "still here").await, "still here");
}

#[tokio::test]
async fn replaces_places_in_an_agents_environment_and_names_its_conversation_there() {
    let world = World::new();
    let start = AgentStart {
        env: BTreeMap::from([("PLACES".to_owned(), "${HOME}:${WORKSPACE}".to_owned())]),
        cwd: Some(world.home()),
        ..scripted("run1/1")
    };
    let (mut talk, _) = Talk::start(&world.caller().await, "agt_1", &start).await;
    let places = format!("env Some(\"{}:{}\")", world.home().display(), world.work().display());
    assert_eq!(talk.says("m1", "env PLACES").await, places);
    assert_eq!(talk.says("m2", "env FOUNDRY_AGENT").await, "env Some(\"agt_1\")");
    talk.turn("m3", "write here x").await;
    assert!(world.home().join("here").exists());
}

#[tokio::test]
async fn passes_a_prompt_on_once_however_often_it_is_posted_and_also_after_a_restart() {
    let mut world = World::new();
    let (mut talk, _) = Talk::start(&world.caller().await, "agt_1", &scripted("run1/1")).await;
    assert_eq!(talk.says("m1", "first").await, "first");
    assert_eq!(talk.tell(&prompt("m1", "first")).await, Outcome::Duplicate);
    let entries = talk.turn("m2", "second").await;
    assert!(entries.iter().any(|e| matches!(e, Entry::Refused { id, .. } if id == "m1")), "{entries:?}");
    assert_eq!(words(&entries), "second");

    world.restart("run2");
    let (mut talk, _) = Talk::start(&world.caller().await, "agt_1", &scripted("run2/1")).await;
    assert_eq!(talk.tell(&prompt("m1", "first")).await, Outcome::Duplicate);
    let entries = talk.turn("m3", "third").await;
    assert!(matches!(&entries[0], Entry::Instance { runtime_instance, .. } if runtime_instance == "run2"));
    assert_eq!(words(&entries), "third");
}

#[tokio::test]
async fn asks_for_permission_and_passes_on_one_answer() {
    let world = World::new();
    let (mut talk, _) = Talk::start(&world.caller().await, "agt_1", &scripted("run1/1")).await;
    talk.tell(&prompt("m1", "ask")).await;
    talk.until(|e| asks(e, "session/request_permission")).await;
    let yes = json!({"jsonrpc": "2.0", "id": 7, "result": {"outcome": {"optionId": "yes"}}});
    assert_eq!(talk.tell(&yes).await, Outcome::PassedOn);
    assert_eq!(talk.tell(&yes).await, Outcome::Duplicate);
    let entries = talk.until(|e| answers(e, "m1")).await;
    assert!(words(&entries).contains(r#""optionId":"yes""#), "{entries:?}");
}

#[tokio::test]
async fn answers_a_request_that_is_not_offered_and_the_turn_goes_on() {
    let world = World::new();
    let (mut talk, _) = Talk::start(&world.caller().await, "agt_1", &scripted("run1/1")).await;
    let entries = talk.turn("m1", "borrow").await;
    assert_eq!(words(&entries), "answer null-32601");
    let recorded = entries.iter().any(|e| {
        matches!(e, Entry::Message { dir: Direction::ToAgent, msg }
            if msg["id"] == 8 && msg["error"]["message"] == "fs/write_text_file is not supported by Foundry")
    });
    assert!(recorded, "{entries:?}");
    let late = json!({"jsonrpc": "2.0", "id": 8, "result": {}});
    assert_eq!(talk.tell(&late).await, Outcome::Duplicate, "it was answered already");
    assert_eq!(talk.says("m2", "on").await, "on");
}

#[tokio::test]
async fn an_agent_that_ignores_its_input_blocks_no_other_conversation() {
    let world = World::new();
    let caller = world.caller().await;
    let (mut talk, _) = Talk::start(&caller, "agt_1", &scripted("run1/1")).await;
    let (mut other, _) = Talk::start(&caller, "agt_2", &scripted("run1/1")).await;
    talk.tell(&prompt("m1", "deaf")).await;
    talk.until(|e| matches!(e, Entry::Message { dir: Direction::FromAgent, .. })).await;
    let big = "x".repeat(2_000);
    let mut passed_on = 0;
    let refused = loop {
        let answer = caller.tell("agt_1", &prompt(&format!("b{passed_on}"), &big)).await;
        if !answer.status.is_success() {
            break answer;
        }
        passed_on += 1;
        assert!(passed_on < 1_000, "the queue has no bound");
    };
    refused.is(503, "busy");
    assert_eq!(other.says("m1", "hello").await, "hello");
    // A refused message was not recorded as passed on, so it can be sent again.
    let started = foundry_core::Clock::now(&foundry_core::SystemClock);
    caller.delete("/v1/agents/agt_1").await.raw();
    let took = foundry_core::Clock::now(&foundry_core::SystemClock).since(started);
    assert!(took.as_secs() < 60, "it is deaf for ten minutes: {took:?}");
    let (talk, _) = Talk::start(&caller, "agt_1", &scripted("run1/2")).await;
    let again = prompt(&format!("b{passed_on}"), "again");
    assert_eq!(talk.tell(&again).await, Outcome::PassedOn);
}

#[tokio::test]
async fn ends_a_wrapper_its_native_child_and_processes_of_other_sessions() {
    let world = World::new();
    let caller = world.caller().await;
    // None of the three exits by itself; the last one has another session and an empty environment.
    let script = "trap '' TERM; (trap '' TERM; exec sleep 601) & setsid -f sleep 602; \
        setsid env -i sleep 603 & read -r line; wait";
    let (_, started) = Talk::start(&caller, "agt_1", &started_as("run1/1", &["sh", "-c", script])).await;
    let (_, other) = Talk::start(&caller, "agt_2", &scripted("run1/1")).await;
    eventually("all of it runs", async || (world.running("sleep 60").len() >= 4).then_some(())).await;
    let all = world.running("sleep 60");
    assert!(all.iter().any(|p| p.pid == started.pid), "the wrapper's command line holds it as well");
    caller.delete("/v1/agents/agt_1").await.raw();
    for process in &all {
        gone("a process of the agent exits", process).await;
    }
    let agents: Agents = caller.get("/v1/agents").await.ok();
    let left: Vec<i32> = agents.agents.iter().map(|a| a.pid).collect();
    assert_eq!(left, [other.pid], "the other agent's is not touched");
    caller.delete("/v1/agents/agt_1").await.raw();
}

#[tokio::test]
async fn ends_the_session_of_a_crashed_agent() {
    let world = World::new();
    let script = "sleep 611 & exit 4";
    let start = started_as("run1/1", &["sh", "-c", script]);
    let (mut talk, _) = Talk::start(&world.caller().await, "agt_1", &start).await;
    let last = talk.until(|e| matches!(e, Entry::Exit { .. })).await;
    assert_eq!(last.last(), Some(&Entry::Exit { code: Some(4), signal: None }));
    eventually("its session ends", async || world.running("sleep 611").is_empty().then_some(())).await;
}

#[tokio::test]
async fn marks_a_hole_for_garbage_and_for_a_message_beyond_the_limit() {
    let world = World::new();
    let (mut talk, _) = Talk::start(&world.caller().await, "agt_1", &scripted("run1/1")).await;
    for (id, text) in [("m1", "garbage"), ("m2", "huge 9000000")] {
        let entries = talk.turn(id, text).await;
        let holes = entries.iter().filter(|e| matches!(e, Entry::Lost { messages: 1, .. })).count();
        assert_eq!(holes, 1, "{text}");
    }
    assert_eq!(talk.says("m3", "huge 3000000").await.len(), 3_000_000);
    let too_long = prompt("m4", &"x".repeat(9_000_000));
    talk.caller.tell("agt_1", &too_long).await.is(413, "too_large");
    talk.caller.call("POST", "/v1/agents/agt_1/messages", "{\"id\":1,\"meth").await.is(400, "invalid");
}
