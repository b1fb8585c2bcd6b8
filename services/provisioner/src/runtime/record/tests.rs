//! How much of an agent's output one revision holds, and how much is stored of it.

use foundry_proto::common::v1::{AgentMessage, Notice};
use serde_json::{Value, json};

use super::*;
use crate::domain::{MAX_STRETCH, MAX_TEXT};
use crate::testing::Fixture;
use crate::testing::agent::FakeAgent;

/// A session whose agent is ready.
async fn ready() -> (Fixture, FakeAgent, Session) {
    let f = Fixture::new().await;
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
