//! Conversations through the real runtime and the tap.

mod common;

use common::{Host, name, open, ready, words};
use foundry_core::Env;
use foundry_sandbox::acp::AcpEvent;
use foundry_sandbox::{
    AgentCredentials, AgentKind, Conversation, Direction, IsolationMode, Posted, Provider as _, RequestId,
    TapBody, TapCursor, TapEvent, TapReadError, TapReader,
};
use serde_json::json;

fn directions(events: &[TapEvent]) -> Vec<Direction> {
    let direction = |e: &TapEvent| match &e.body {
        TapBody::Message { direction, .. } => Some(*direction),
        _ => None,
    };
    events.iter().filter_map(direction).collect()
}

#[tokio::test]
async fn records_both_directions_under_the_runtime_instance() {
    for mode in [IsolationMode::Auto, IsolationMode::Off] {
        let host = Host::new(mode);
        let provider = host.provider().await;
        let name = name();
        let (facts, _) = ready(&provider, &name).await;
        let mut talk = open(&provider, &facts, "agt_1", "run1").await;
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
    let (facts, client) = ready(&provider, &name).await;
    let mut talk = open(&provider, &facts, "agt_1", "run1").await;
    assert_eq!(talk.said("m1", "first").await, "first");
    let id = RequestId("m1".into());
    let again = client.prompt(&talk.acp, &id, &talk.session, "first").await.unwrap();
    assert_eq!(again, Posted::AlreadyPassedOn);
    let events = talk.turn("m2", "second").await;
    assert!(
        events.iter().any(|e| matches!(&e.body, TapBody::Refused { id, .. } if id == "m1")),
        "{events:?}"
    );
    assert_eq!(words(&events), "second");

    // Also by the next runtime instance, which knows it from the log.
    facts.process().kill().unwrap();
    common::eventually("the runtime is gone", async || {
        matches!(provider.probe(&facts).await.unwrap(), foundry_sandbox::Health::Dead { .. }).then_some(())
    })
    .await;
    let facts = provider.start_agent(&common::start_spec(&name, "run2")).await.unwrap();
    let talk = open(&provider, &facts, "agt_1", "run2").await;
    let again = talk.client.prompt(&talk.acp, &id, &talk.session, "first").await.unwrap();
    assert_eq!(again, Posted::AlreadyPassedOn);
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn opens_a_conversation_once_and_finds_it_again_after_a_restart_of_the_mesh() {
    let host = Host::new(IsolationMode::Auto);
    let name = name();
    let (facts, client) = ready(&host.provider().await, &name).await;
    let provider = host.provider().await;
    let first = open(&provider, &facts, "agt_1", "run1").await;
    client.resync(&first.acp).await.unwrap();
    let mut second = open(&provider, &facts, "agt_1", "run1").await;
    assert_eq!(first.session, second.session);
    assert_eq!(client.acp_servers().await.unwrap().len(), 1);
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
    let (facts, _) = ready(&provider, &name).await;
    let mut talk = open(&provider, &facts, "agt_1", "run1").await;
    let events = talk.turn("m1", "crash 3").await;
    let last = &events.last().unwrap().body;
    assert_eq!(*last, TapBody::Exited { code: Some(3), signal: None });

    let mut talk = open(&provider, &facts, "agt_1", "run1").await;
    let events = talk.turn("m2", "back again").await;
    let exits = events.iter().filter(|e| matches!(e.body, TapBody::Exited { .. })).count();
    assert_eq!(exits, 1, "the turn reads the whole log: {events:?}");
    assert_eq!(talk.said("m3", "third").await, "third");
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn ends_a_busy_agent_when_it_is_closed_and_when_its_tap_is_killed() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, client) = ready(&provider, &name).await;
    // The processes whose command lines hold this, as the tap's does the agent's.
    let running = |part: &str| -> Vec<i32> {
        let holds = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ").contains(part)
        };
        common::processes_of(&name).into_iter().filter(holds).collect()
    };
    for (acp, closed) in [("agt_1", true), ("agt_2", false)] {
        let mut talk = open(&provider, &facts, acp, "run1").await;
        let acp = talk.acp.clone();
        let stop = async {
            common::eventually("it works", async || (running("demo-agent").len() == 2).then_some(())).await;
            if closed {
                client.close(&acp).await.unwrap();
            } else {
                let tap = foundry_sandbox::ProcessRef::of(running("internal tap")[0]).unwrap();
                assert!(tap.kill().unwrap());
            }
            common::eventually("it is gone", async || running("demo-agent").is_empty().then_some(())).await;
        };
        tokio::select! {
            () = stop => {}
            events = talk.turn("m1", "slow 60000") => assert!(closed, "the turn ended: {events:?}"),
        }
    }
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn asks_for_permission_and_passes_on_one_answer() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, client) = ready(&provider, &name).await;
    let mut talk = open(&provider, &facts, "agt_1", "run1").await;
    let (acp, reader) = (talk.acp.clone(), provider.host_home(&name).unwrap());
    let answer = async {
        let (id, option) = common::eventually("the agent asks", async || {
            let events = TapReader::new(&reader, &acp).read(&TapCursor::default()).await.unwrap().events;
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
    let log = TapReader::new(&reader, &acp).read(&TapCursor::default()).await.unwrap().events;
    assert!(log.iter().any(|e| matches!(&e.body, TapBody::Refused { id, .. } if *id == json!(7))), "{log:?}");
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn marks_a_hole_for_garbage_and_for_a_message_beyond_the_limit() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, _) = ready(&provider, &name).await;
    let mut talk = open(&provider, &facts, "agt_1", "run1").await;
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
    let (facts, client) = ready(&provider, &name).await;
    let home = provider.host_home(&name).unwrap();
    let acp = "agt_1".parse().unwrap();
    let env = [("MODEL_KEY".to_owned(), "sk-very-secret".to_owned())].into();
    let id = RequestId("run1/initialize".into());
    let answered = client.initialize(&acp, AgentKind::Demo, &id, &env).await.unwrap();
    let Posted::Answered(answer) = answered else { panic!("{answered:?}") };
    assert_eq!(answer["seen"].get("_meta"), None, "the agent does not see what is for the tap");
    let mut talk = open(&provider, &facts, "agt_1", "run1").await;
    assert_eq!(talk.said("m1", "env MODEL_KEY").await, r#"env Some("sk-very-secret")"#);

    let spec = foundry_sandbox::ExecSpec {
        argv: ["sh", "-c", "grep -rl sk-very-secret $HOME; tr '\\0' '\\n' </proc/self/environ; exit 0"]
            .map(str::to_owned)
            .to_vec(),
        limit: std::time::Duration::from_secs(10),
        max_output: 1 << 16,
        ..Default::default()
    };
    let seen = client.exec_in_sandbox(&facts, &spec).await.unwrap();
    assert!(!seen.stdout.contains("sk-very-secret") && seen.stdout.contains("HOME="), "{seen:?}");
    let logs: Vec<&str> = seen.stdout.lines().filter(|l| l.starts_with('/')).collect();
    // The agent said it aloud, which is its own message; nothing but its record holds it.
    assert_eq!(logs, [format!("{}/.foundry/tap/agt_1.log", facts.home.display())]);
    assert!(home.join(".foundry/tap/agt_1.log").exists());
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn names_the_credentials_a_real_agent_lacks_before_anything_is_started() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, client) = ready(&provider, &name).await;
    let conversation = Conversation {
        client: &client,
        host_home: &provider.host_home(&name).unwrap(),
        acp: &"agt_1".parse().unwrap(),
        agent: AgentKind::ClaudeCode,
        credentials: &AgentCredentials::default(),
        workspace: facts.workspace.clone(),
        attempt: "run1",
    };
    let e = conversation.open(&Env::system()).await.unwrap_err();
    assert_eq!(e.reason, "AGENT_CREDENTIALS_MISSING");
    assert!(client.acp_servers().await.unwrap().is_empty());
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn refuses_a_log_that_the_agent_replaced_by_a_link_to_a_host_file() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, client) = ready(&provider, &name).await;
    let talk = open(&provider, &facts, "agt_1", "run1").await;
    let spec = foundry_sandbox::ExecSpec {
        argv: ["sh", "-c", "cd $HOME/.foundry/tap && mv agt_1.log x && ln -s /etc/passwd agt_1.log"]
            .map(str::to_owned)
            .to_vec(),
        limit: std::time::Duration::from_secs(10),
        max_output: 1 << 16,
        ..Default::default()
    };
    assert_eq!(client.exec_in_sandbox(&facts, &spec).await.unwrap().exit_code, Some(0));
    let home = provider.host_home(&name).unwrap();
    let read = TapReader::new(&home, &talk.acp).read(&TapCursor::default()).await;
    assert!(matches!(read, Err(TapReadError::Refused(_))), "{read:?}");
    provider.destroy(&name).await.unwrap();
}
