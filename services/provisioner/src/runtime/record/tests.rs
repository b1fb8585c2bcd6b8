//! How much of an agent's output one revision holds, and how much is stored of it.

use std::time::Duration;

use foundry_core::{MessageId, OrganizationId};
use foundry_flow::{Engine, Options};
use foundry_proto::common::v1::{AgentMessage, Notice};
use foundry_proto::provisioner::v1 as p;
use foundry_sandbox::{LimitKind, LimitReport, ReachedLimit};
use serde_json::{Value, json};

use super::*;
use crate::config::OutputSection;
use crate::domain::{MAX_STRETCH, MAX_TEXT};
use crate::ops;
use crate::testing::Fixture;
use crate::testing::agent::FakeAgent;

/// A session whose agent is ready.
async fn ready() -> (Fixture, FakeAgent, Session) {
    ready_within(OutputSection::default()).await
}

/// The same, with these limits of stored output.
async fn ready_within(limits: OutputSection) -> (Fixture, FakeAgent, Session) {
    let mut f = Fixture::new().await;
    f.configure(|config| config.output = limits);
    let flows = crate::flow::bindings(&f.shared);
    f.engine = Engine::new(f.shared.store.clone(), f.env.env.clone(), flows, Options::default()).unwrap();
    let agent = FakeAgent::serve(&f).await;
    let sandbox = f.ensure().await;
    f.run().await;
    let session = f.session(&sandbox).await;
    f.run().await;
    (f, agent, session)
}

fn update(update: Value) -> Value {
    json!({"method": "session/update", "params": {"sessionId": "s1", "update": update}})
}

fn words(text: &str) -> Value {
    update(json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}))
}

/// Encoded bytes and number of events of each revision.
async fn revisions(f: &Fixture) -> Vec<(i64, i64)> {
    const SQL: &str = "SELECT SUM(LENGTH(part)) AS bytes, COUNT(*) AS events FROM agent_events GROUP BY rev";
    let rows = f.shared.store.query(SQL, &[]).await.unwrap();
    rows.iter().map(|r| (r.int("bytes").unwrap(), r.int("events").unwrap())).collect()
}

#[tokio::test]
async fn keeps_the_beginning_of_a_giant_message_and_says_how_much_is_left_out() {
    let (f, agent, session) = ready().await;
    agent.says_all(&session.session_id, [words(&"x".repeat(4 << 20)), words("and on")]).await;
    let (mut texts, mut notices) = (Vec::new(), Vec::new());
    for part in events::newest(&f.shared.store, &session.session_id).await.unwrap() {
        match part.body {
            Some(Body::AgentMessage(AgentMessage { text })) => texts.push(text),
            Some(Body::Notice(Notice { message, .. })) => notices.push(message),
            _ => {}
        }
    }
    let revisions = revisions(&f).await;
    let most = i64::try_from(MAX_TEXT + 2 * MAX_STRETCH).unwrap();
    assert!(revisions.iter().all(|(bytes, _)| *bytes < most), "{revisions:?}");
    assert_eq!(texts.pop().as_deref(), Some("and on"));
    assert_eq!(texts.concat().len(), MAX_TEXT);
    let left_out = "3145728 of 4194304 bytes are left out here: \
                    the agent sent more text at once than fits";
    assert_eq!(notices, [left_out]);
}

#[tokio::test]
async fn splits_what_thousands_of_tiny_updates_make_into_revisions_that_a_watch_can_send() {
    let (f, agent, session) = ready().await;
    let call = |n: usize| {
        let text = json!({"type": "text", "text": "o".repeat(2_000)});
        update(
            json!({"sessionUpdate": "tool_call", "toolCallId": format!("call-{n}"), "title": "t".repeat(300),
            "rawInput": "i".repeat(1_000), "content": [{"type": "content", "content": text}],
            "locations": vec![json!({"path": "p".repeat(200)}); 5]}),
        )
    };
    let tiny = |n: usize| {
        update(json!({"sessionUpdate": "tool_call_update", "toolCallId": format!("call-{}", n % 64),
            "status": "in_progress"}))
    };
    agent.says_all(&session.session_id, (0..64).map(call).chain((0..4_000).map(tiny))).await;
    let revisions = revisions(&f).await;
    let largest = revisions.iter().map(|(bytes, _)| *bytes).max().unwrap();
    assert!(largest < i64::try_from(2 * MAX_STRETCH).unwrap(), "{revisions:?}");
    // A call is stored once for each revision, not once for each update.
    let stored: i64 = revisions.iter().map(|(_, events)| events).sum();
    assert!(stored < 1_000, "{stored} events in {} revisions", revisions.len());
    let log = agent.read_log(session.session_id.as_str()).len();
    let cursor = f.again(&session).await.cursor;
    assert_eq!(cursor.offset, u64::try_from(log).unwrap(), "the log is recorded to its end");
}

/// Starts a turn, which the agent does not end by itself.
async fn begin_turn(f: &Fixture, session: &Session) -> String {
    let message_id = MessageId::generate(&f.env.env).to_string();
    let prompt = p::PromptAgentSessionRequest {
        session_id: session.session_id.to_string(),
        message_id: message_id.clone(),
        text: "hi".into(),
        ..p::PromptAgentSessionRequest::default()
    };
    ops::prompt_agent_session::prompt_agent_session(&f.shared, &f.task, prompt).await.unwrap();
    f.run().await;
    assert_eq!(f.again(session).await.state, SessionState::Running);
    message_id
}

/// What the events of a session say, after an offset.
async fn told(f: &Fixture, session: &Session, after: i64) -> Vec<String> {
    let all = events::newest(&f.shared.store, &session.session_id).await.unwrap();
    let word = |part: TranscriptPart| match part.body {
        Some(Body::AgentMessage(message)) => message.text,
        Some(Body::Notice(notice)) if notice.kind() == NoticeKind::LimitReached => "limit".to_owned(),
        Some(Body::PermissionRequest(_)) => "asks".to_owned(),
        Some(Body::TurnEnd(end)) => format!("{:?}", end.outcome()),
        other => format!("{other:?}"),
    };
    all.into_iter().skip(usize::try_from(after).unwrap()).map(word).collect()
}

/// Bytes of the events that the database holds of a session.
async fn held(f: &Fixture, session: &Session) -> i64 {
    const SQL: &str =
        "SELECT COALESCE(SUM(LENGTH(part)), 0) AS bytes FROM agent_events WHERE session_id = $1";
    f.shared.store.query(SQL, &[(&session.session_id).into()]).await.unwrap()[0].int("bytes").unwrap()
}

#[tokio::test]
async fn stores_no_more_output_than_the_limit_of_its_task_says_so_once_a_turn_and_ends_the_turn() {
    let limits = OutputSection { task_bytes: 2_000, ..OutputSection::default() };
    let (f, agent, session) = ready_within(limits).await;
    agent.ignore_prompts();
    agent.says(1, ""); // the hand-over that follows a turn
    let id = &session.session_id;
    let speaks = |text: &str| words(&text.repeat(1_000));
    let ask = json!({"jsonrpc": "2.0", "id": 7, "method": "session/request_permission",
        "params": {"sessionId": "s1", "toolCall": {"toolCallId": "t", "title": "run tests"},
        "options": [{"optionId": "y", "name": "Allow", "kind": "allow_once"}]}});
    let mut known = session.last_offset;
    let mut left_out = 0;
    for said in [vec!["a".repeat(1_000), "b".repeat(1_000)], vec![]] {
        let message = begin_turn(&f, &session).await;
        for text in ["a", "b", "c", "d"] {
            agent.says_all(id, [speaks(text)]).await;
        }
        let shown = f.again(&session).await;
        assert_eq!(
            (shown.condition.reason.as_str(), shown.state),
            ("TASK_OUTPUT_LIMIT", SessionState::Running)
        );
        assert_eq!(shown.condition.waiting_on, "agent");
        let silent = shown.rev;
        agent.says_all(id, [speaks("e")]).await;
        let counted = f.again(&session).await;
        assert_eq!(counted.rev, silent, "what is left out is counted, and makes no revision");
        assert!(counted.left_out_bytes > left_out + 2_000, "{}", counted.left_out_bytes);
        left_out = counted.left_out_bytes;

        agent.says_all(id, [speaks("f"), ask.clone(), speaks("g")]).await;
        let asking = f.again(&session).await;
        assert_eq!(asking.condition.reason, "PERMISSION_PENDING");
        let rows = "SELECT MAX(ordinal) AS at FROM permissions";
        let at = f.shared.store.query(rows, &[]).await.unwrap()[0].int("at").unwrap();
        assert_eq!(at, asking.last_offset, "the request is where its part is");

        let end = json!({"jsonrpc": "2.0", "id": message, "result": {"stopReason": "end_turn"}});
        agent.says_all(id, [end]).await;
        let ended = f.again(&session).await;
        assert_eq!(
            (ended.condition.reason.as_str(), ended.state),
            ("TASK_OUTPUT_LIMIT", SessionState::Ready)
        );
        assert!(
            ended.condition.message.contains("KiB of agent output was not stored"),
            "{:?}",
            ended.condition
        );
        let mut expected = said;
        expected.extend(["limit", "asks", "Completed"].map(str::to_owned));
        assert_eq!(told(&f, &session, known).await, expected);
        assert_eq!(ended.stored_bytes, held(&f, &session).await);
        known = ended.last_offset;
    }
}

#[tokio::test]
async fn counts_all_tasks_of_an_organization_and_none_of_another() {
    let limits = OutputSection { organization_bytes: 2_000, ..OutputSection::default() };
    let (f, agent, first) = ready_within(limits).await;
    let second = f.ensure().await;
    let organization_id = OrganizationId::generate(&f.env.env).to_string();
    let elsewhere = p::EnsureSandboxRequest { organization_id, ..f.wanted() };
    let elsewhere = ops::ensure_sandbox::ensure_sandbox(&f.shared, &f.task, elsewhere).await.unwrap();
    let elsewhere = f.sandbox(&elsewhere.sandbox.unwrap().sandbox_id).await;
    f.run().await;
    let (second, elsewhere) = (f.session(&second).await, f.session(&elsewhere).await);
    f.run().await;
    for _ in 0..2 {
        agent.says_all(&first.session_id, [words(&"x".repeat(1_000))]).await;
    }
    for session in [&second, &elsewhere] {
        agent.says_all(&session.session_id, [words("hello")]).await;
    }
    assert_eq!(told(&f, &second, 0).await, ["limit"]);
    assert_eq!(f.again(&second).await.condition.reason, "ORGANIZATION_OUTPUT_LIMIT");
    assert_eq!(told(&f, &elsewhere, 0).await, ["hello"]);
}

#[tokio::test]
async fn checks_the_limits_without_a_commit_and_with_one_statement_in_ten_seconds() {
    let (f, agent, session) = ready().await;
    let cost = async || {
        let before = f.shared.store.stats();
        agent.says_all(&session.session_id, [words("hello")]).await;
        let after = f.shared.store.stats();
        (after.requests - before.requests, after.statements - before.statements)
    };
    // Only what is asked for here reads the log from then on.
    f.shared.pumps.stop(&session.session_id);
    cost().await;
    let (commits, statements) = cost().await;
    assert_eq!(commits, 1);
    assert_eq!(cost().await, (1, statements));
    f.env.clock.advance(Duration::from_secs(10));
    assert_eq!(cost().await, (1, statements + 1));
    assert_eq!(cost().await, (1, statements));
}

#[tokio::test]
async fn a_limit_of_the_sandbox_is_shown_above_one_of_output_which_comes_back_after_it() {
    let limits = OutputSection { task_bytes: 1_000, ..OutputSection::default() };
    let (f, agent, session) = ready_within(limits).await;
    agent.ignore_prompts();
    agent.says(1, ""); // the hand-over that follows a turn
    let message = begin_turn(&f, &session).await;
    for _ in 0..2 {
        agent.says_all(&session.session_id, [words(&"x".repeat(1_000))]).await;
    }
    let end = json!({"jsonrpc": "2.0", "id": message, "result": {"stopReason": "end_turn"}});
    agent.says_all(&session.session_id, [end]).await;
    let limited = f.again(&session).await.condition;
    assert_eq!(limited.reason, "TASK_OUTPUT_LIMIT");

    let memory = ReachedLimit {
        kind: LimitKind::Memory,
        used: 9 << 20,
        limit: 8 << 20,
        since: Timestamp::from_micros(5),
        ended: true,
    };
    for (reached, shown) in [(vec![memory], "SANDBOX_MEMORY_LIMIT"), (vec![], "TASK_OUTPUT_LIMIT")] {
        f.provider.host().limits = LimitReport { limits: String::new(), reached };
        crate::runtime::check_all(&f.shared).await;
        assert_eq!(f.again(&session).await.condition.reason, shown);
    }
    let again = f.again(&session).await.condition;
    assert_eq!(again.message, limited.message);
}
