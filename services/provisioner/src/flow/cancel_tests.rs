//! An agent that ignores a stop.

use std::time::Duration;

use foundry_core::MessageId;
use foundry_proto::provisioner::v1::{CancelPromptRequest, PromptAgentSessionRequest};

use crate::domain::{Session, TurnState};
use crate::ops;
use crate::store::turns;
use crate::testing::Fixture;
use crate::testing::agent::FakeAgent;

/// A running turn that a person has stopped; the cancel job has not run yet.
async fn stopped() -> (Fixture, FakeAgent, Session) {
    let f = Fixture::new().await;
    let agent = FakeAgent::serve(&f).await;
    let sandbox = f.ensure().await;
    f.run().await;
    let session = f.session(&sandbox).await;
    f.run().await;
    agent.ignore_prompts();
    let prompt = PromptAgentSessionRequest {
        session_id: session.session_id.to_string(),
        message_id: MessageId::generate(&f.env.env).to_string(),
        text: "hi".into(),
        ..Default::default()
    };
    ops::prompt_agent_session::prompt_agent_session(&f.shared, &f.task, prompt).await.unwrap();
    f.run().await;
    let stop = CancelPromptRequest { session_id: session.session_id.to_string(), ..Default::default() };
    ops::cancel_prompt::cancel_prompt(&f.shared, &f.task, stop).await.unwrap();
    (f, agent, session)
}

async fn after(f: &Fixture, seconds: u64) {
    f.env.clock.advance(Duration::from_secs(seconds));
    f.run().await;
}

async fn turn_state(f: &Fixture, session: &Session) -> TurnState {
    let now = f.again(session).await;
    turns::find_named(&f.shared.store, &session.session_id, &now.message_id).await.unwrap().unwrap().state
}

#[tokio::test]
async fn an_agent_has_its_time_to_obey_from_the_moment_it_was_asked() {
    let (f, agent, _) = stopped().await;
    // The agent gets its full time, however long the stop was delayed.
    after(&f, 60).await;
    assert_eq!(agent.asked().last().map(String::as_str), Some("session/cancel"));
    after(&f, 14).await;
    assert_eq!(agent.closed(), 0, "the agent still had a second");
    after(&f, 2).await;
    assert_eq!(agent.closed(), 1);
    let asked = agent.asked().iter().filter(|m| *m == "session/cancel").count();
    assert_eq!(asked, 1, "it is asked once");
}

#[tokio::test]
async fn a_process_that_cannot_be_ended_at_once_is_tried_again() {
    let (f, agent, session) = stopped().await;
    f.run().await;
    agent.fail_to_close(2);
    after(&f, 16).await;
    assert_eq!((agent.closed(), turn_state(&f, &session).await), (0, TurnState::Sent));
    for _ in 0..3 {
        after(&f, 3).await;
    }
    assert_eq!(agent.closed(), 1);
}

#[tokio::test]
async fn a_turn_ends_although_its_process_cannot_be_ended() {
    let (f, agent, session) = stopped().await;
    f.run().await;
    agent.fail_to_close(usize::MAX);
    agent.says(1, ""); // the hand-over that follows a turn
    after(&f, 16).await;
    for _ in 0..5 {
        after(&f, 5).await;
    }
    assert_eq!((agent.closed(), turn_state(&f, &session).await), (0, TurnState::Ended));
}
