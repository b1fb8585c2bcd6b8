//! Reopening the session of a restarted agent.

use std::time::Duration;

use foundry_core::MessageId;
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::provisioner::v1::PromptAgentSessionRequest;
use serde_json::{Value, json};

use crate::domain::{Session, SessionState};
use crate::ops::prompt_agent_session::prompt_agent_session;
use crate::runtime::check_all;
use crate::store::events;
use crate::testing::Fixture;
use crate::testing::agent::FakeAgent;

async fn prompt(f: &Fixture, session: &Session) {
    let prompt = PromptAgentSessionRequest {
        session_id: session.session_id.to_string(),
        message_id: MessageId::generate(&f.env.env).to_string(),
        text: "hi".into(),
        ..Default::default()
    };
    prompt_agent_session(&f.shared, &f.task, prompt).await.unwrap();
    f.run().await;
}

fn chunk(text: &str) -> Value {
    let content = json!({"type": "text", "text": text});
    let update = json!({"sessionUpdate": "agent_message_chunk", "content": content});
    json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "s1", "update": update}})
}

/// Longest wait for something that happens without the clock of the fixture.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_session_is_ready_when_its_agent_has_told_the_history_also_after_the_answer() {
    let f = Fixture::new().await;
    let agent = FakeAgent::serve(&f).await;
    agent
        .answers("initialize", Ok(json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true}})));
    // The hand-over of the work after a turn is not under test here.
    agent.says(1, "");
    let made = f.ensure().await;
    f.run().await;
    let session = f.session(&made).await;
    f.run().await;
    prompt(&f, &session).await;
    agent.exits(&session.session_id).await;
    check_all(&f.shared).await;

    let tells = async {
        agent.until_requested("session/load").await;
        agent.says_all(&session.session_id, (0..100).map(|_| chunk("again"))).await;
        // Only the clock can end the wait once four timers run: the limit of the stage, the quiet time, the longest
        // wait for it, and that of the next look at the log.
        loop {
            assert_eq!(f.again(&session).await.state, SessionState::Creating, "the log is not quiet yet");
            if f.env.clock.sleepers() >= 4 {
                break;
            }
            tokio::task::yield_now().await;
        }
        while f.again(&session).await.state == SessionState::Creating {
            f.env.clock.advance(Duration::from_millis(50));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let both = Box::pin(async { tokio::join!(f.run(), tells) });
    assert!(tokio::time::timeout(SOON, both).await.is_ok(), "it is not ready");
    assert_eq!(f.again(&session).await.state, SessionState::Ready);

    prompt(&f, &session).await;
    let parts = events::newest(&f.shared.store, &session.session_id).await.unwrap();
    assert!(!parts.iter().any(|p| matches!(p.body, Some(Body::AgentMessage(_)))), "{parts:?}");
}
