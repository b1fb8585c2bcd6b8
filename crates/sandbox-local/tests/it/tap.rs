//! Conversations through the real runtime and the tap.

use std::sync::Arc;

use foundry_agents::{Catalogue, Profile, launch};
use foundry_runtime_client::{Posted, RequestId};
use foundry_sandbox::acp::AcpEvent;
use foundry_sandbox::{Direction, Provider as _, TapBody, TapCursor, TapEvent, TapReadError, TapReader};
use foundry_sandbox_local::IsolationMode;
use serde_json::json;

use crate::common::{Host, WAYS, eventually, name, open, open_with, process, ready, run, start_spec, words};

fn directions(events: &[TapEvent]) -> Vec<Direction> {
    let direction = |e: &TapEvent| match &e.body {
        TapBody::Message { direction, .. } => Some(*direction),
        _ => None,
    };
    events.iter().filter_map(direction).collect()
}

#[tokio::test]
async fn records_both_directions_under_the_runtime_instance() {
    for way in WAYS {
        let host = Host::by(way);
        let provider = host.provider().await;
        let name = name();
        let (facts, _) = ready(&host, &provider, &name).await;
        let mut talk = open(&host, &provider, &facts, "agt_1", "run1").await;
        let events = talk.turn("m1", "hello").await;
        assert!(matches!(&events[0].body, TapBody::Started { agent } if agent == "demo"));
        assert!(events.iter().all(|e| e.instance == "run1"));
        assert!(events.is_sorted_by(|a, b| a.offset < b.offset));
        let (to, from) = (Direction::ToAgent, Direction::FromAgent);
        assert_eq!(directions(&events), [to, from, to, from, to, from, from], "{events:?}");
        assert_eq!(words(&events), "hello");
        provider.destroy(&name).await.unwrap();
    }
}

#[tokio::test]
async fn passes_a_prompt_on_once_however_often_it_is_posted() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, client) = ready(&host, &provider, &name).await;
    let mut talk = open(&host, &provider, &facts, "agt_1", "run1").await;
    assert_eq!(talk.said("m1", "first").await, "first");
    let id = RequestId("m1".into());
    let again = client.prompt(&talk.acp, &id, &talk.session, "first").await.unwrap();
    assert_eq!(again, Posted::Duplicate);
    let events = talk.turn("m2", "second").await;
    assert!(
        events.iter().any(|e| matches!(&e.body, TapBody::Refused { id, .. } if id == "m1")),
        "{events:?}"
    );
    assert_eq!(words(&events), "second");

    // The next runtime instance has it from the log.
    process(&facts).kill().unwrap();
    eventually("the runtime is gone", async || {
        matches!(provider.probe(&facts).await.unwrap(), foundry_sandbox::Health::Dead { .. }).then_some(())
    })
    .await;
    let facts = provider.start_agent(&start_spec(&name, "run2")).await.unwrap();
    let talk = open(&host, &provider, &facts, "agt_1", "run2").await;
    let again = talk.client.prompt(&talk.acp, &id, &talk.session, "first").await.unwrap();
    assert_eq!(again, Posted::Duplicate);
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn opens_a_conversation_once_and_finds_it_again_after_a_restart_of_the_mesh() {
    let host = Host::new(IsolationMode::Auto);
    let name = name();
    let (facts, client) = ready(&host, &host.provider().await, &name).await;
    let provider = host.provider().await;
    let first = open(&host, &provider, &facts, "agt_1", "run1").await;
    let mut second = open(&host, &provider, &facts, "agt_1", "run1").await;
    assert_eq!(first.session, second.session);
    assert_eq!(client.agents().await.unwrap().len(), 1);
    let events = second.turn("m1", "hi").await;
    let started = events.iter().filter(|e| matches!(e.body, TapBody::Started { .. })).count();
    assert_eq!((started, words(&events)), (1, "hi".to_owned()));
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn keeps_the_record_of_a_crashed_agent_and_starts_another_in_its_place() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, _) = ready(&host, &provider, &name).await;
    let mut talk = open(&host, &provider, &facts, "agt_1", "run1").await;
    let events = talk.turn("m1", "crash 3").await;
    let last = &events.last().unwrap().body;
    assert_eq!(*last, TapBody::Exited { code: Some(3), signal: None });

    let mut talk = open(&host, &provider, &facts, "agt_1", "run1").await;
    let events = talk.turn("m2", "back again").await;
    let exits = events.iter().filter(|e| matches!(e.body, TapBody::Exited { .. })).count();
    assert_eq!(exits, 1, "the turn reads the whole log: {events:?}");
    assert_eq!(talk.said("m3", "third").await, "third");
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn ends_a_busy_agent_when_it_is_closed_and_when_the_runtime_is_killed() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, client) = ready(&host, &provider, &name).await;
    let agents = || -> Vec<i32> {
        let holds = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ").ends_with("internal demo-agent ")
        };
        crate::common::processes_of(&name).into_iter().filter(holds).collect()
    };
    for (acp, closed) in [("agt_1", true), ("agt_2", false)] {
        let mut talk = open(&host, &provider, &facts, acp, "run1").await;
        let acp = talk.acp.clone();
        // Before the runtime is killed, it has answered.
        talk.begin("m1", "slow 60000").await;
        let stop = async {
            eventually("it works", async || (agents().len() == 1).then_some(())).await;
            if closed {
                client.close(&acp).await.unwrap();
            } else {
                assert!(process(&facts).kill().unwrap());
            }
            eventually("it is gone", async || agents().is_empty().then_some(())).await;
        };
        tokio::select! {
            () = stop => {}
            events = talk.end("m1") => assert!(closed, "the turn ended: {events:?}"),
        }
    }
    provider.destroy(&name).await.unwrap();
}

/// Case 18: a request that is not offered is answered at once, and the turn continues.
#[tokio::test]
async fn answers_a_request_that_is_not_offered_with_an_error_at_once() {
    for way in WAYS {
        let host = Host::by(way);
        let provider = host.provider().await;
        let name = name();
        let (facts, _) = ready(&host, &provider, &name).await;
        let mut talk = open(&host, &provider, &facts, "agt_1", "run1").await;
        for (id, method) in [("m1", "terminal/create"), ("m2", "fs/write_text_file"), ("m3", "session/fork")]
        {
            let events = talk.turn(id, &format!("want {method}")).await;
            assert_eq!(words(&events), "answer -32601", "{method}");
            let recorded = events.iter().any(|e| {
                matches!(&e.body, TapBody::Message { direction: Direction::ToAgent, json } if json["error"]["code"] == -32601)
            });
            assert!(recorded, "the answer is in the log: {events:?}");
        }
        provider.destroy(&name).await.unwrap();
    }
}

#[tokio::test]
async fn asks_for_permission_and_passes_on_one_answer() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, client) = ready(&host, &provider, &name).await;
    let mut talk = open(&host, &provider, &facts, "agt_1", "run1").await;
    let acp = talk.acp.clone();
    let reader = TapReader::new(Arc::clone(client.sandbox()), &acp);
    let answer = async {
        let (id, option) = eventually("the agent asks", async || {
            let events = reader.read(&TapCursor::default()).await.unwrap().events;
            events.into_iter().find_map(|e| match e.body {
                TapBody::Message { direction, json } => match AcpEvent::parse(direction, json) {
                    AcpEvent::PermissionAsked { id, options, .. } => Some((id, options[0].option_id.clone())),
                    _ => None,
                },
                _ => None,
            })
        })
        .await;
        client.answer_permission(&acp, &id, Some(&option)).await.unwrap();
        client.answer_permission(&acp, &id, None).await.unwrap();
    };
    let (said, ()) = tokio::join!(talk.said("m1", "ask"), answer);
    assert!(said.contains(r#""optionId":"yes""#), "{said}");
    let log = reader.read(&TapCursor::default()).await.unwrap().events;
    assert!(log.iter().any(|e| matches!(&e.body, TapBody::Refused { id, .. } if *id == json!(7))), "{log:?}");
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn marks_a_hole_for_garbage_and_for_a_message_beyond_the_limit() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, _) = ready(&host, &provider, &name).await;
    let mut talk = open(&host, &provider, &facts, "agt_1", "run1").await;
    for (id, prompt) in [("m1", "garbage"), ("m2", "huge 9000000")] {
        let events = talk.turn(id, prompt).await;
        let holes = events.iter().filter(|e| matches!(e.body, TapBody::Lost { messages: 1, .. })).count();
        assert_eq!(holes, 1, "{prompt}");
    }
    let big = talk.said("m3", "huge 1000000").await;
    assert_eq!(big.len(), 1_000_000);
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn gives_a_model_key_to_the_agent_and_writes_it_nowhere() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, client) = ready(&host, &provider, &name).await;
    let mut plain =
        launch(Catalogue::new(Default::default()).unwrap().get("demo").unwrap(), None, &Profile::default())
            .unwrap();
    plain.env.insert("MODEL_KEY".to_owned(), "sk-very-secret".to_owned());
    let mut talk = open_with(&host, &provider, &facts, ("agt_1", "run1"), &plain).await.unwrap();
    let seen =
        run(&client, "grep -rl sk-very-secret $HOME; tr '\\0' '\\n' </proc/self/environ; exit 0").await;
    assert!(!seen.stdout.contains("sk-very-secret") && seen.stdout.contains("HOME="), "{seen:?}");
    assert!(!seen.stdout.lines().any(|l| l.starts_with('/')), "no file holds it: {seen:?}");
    assert_eq!(talk.said("m1", "env MODEL_KEY").await, r#"env Some("sk-very-secret")"#);
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn refuses_a_log_that_the_agent_replaced_by_a_link_to_a_host_file() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, client) = ready(&host, &provider, &name).await;
    let talk = open(&host, &provider, &facts, "agt_1", "run1").await;
    let swap = "cd $HOME/.foundry/tap && mv agt_1.log x && ln -s /etc/passwd agt_1.log";
    assert_eq!(run(&client, swap).await.exit_code, Some(0));
    let read = TapReader::new(Arc::clone(client.sandbox()), &talk.acp).read(&TapCursor::default()).await;
    assert!(matches!(read, Err(TapReadError::Refused(_))), "{read:?}");
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn says_how_long_a_log_is_that_is_shorter_than_what_was_read() {
    for way in WAYS {
        let host = Host::by(way);
        let provider = host.provider().await;
        let name = name();
        let (facts, client) = ready(&host, &provider, &name).await;
        let talk = open(&host, &provider, &facts, "agt_1", "run1").await;
        let length = client.sandbox().read_log(&talk.acp, 0).await.unwrap().length;
        assert!(length > 0);
        let beyond = client.sandbox().read_log(&talk.acp, length + 5).await;
        let cut = |e: &TapReadError| matches!(e, TapReadError::Truncated { expected, found } if (*expected, *found) == (length + 5, length));
        assert!(beyond.as_ref().is_err_and(cut), "{beyond:?}");
        provider.destroy(&name).await.unwrap();
    }
}
