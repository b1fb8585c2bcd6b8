//! Which turn a cancellation stops.

use foundry_core::MessageId;
use foundry_proto::common::v1::{TurnEnd, TurnOutcome};
use foundry_proto::provisioner::v1 as p;

use super::cancel_prompt;
use crate::domain::{Session, SessionState, Turn, TurnState};
use crate::ops::prompt_agent_session::prompt_agent_session;
use crate::runtime::end_turn;
use crate::store::turns;
use crate::testing::Fixture;

async fn prompt(f: &Fixture, session: &Session, message: &MessageId) {
    let request = p::PromptAgentSessionRequest {
        session_id: session.session_id.to_string(),
        message_id: message.to_string(),
        text: "hi".into(),
        ..Default::default()
    };
    prompt_agent_session(&f.shared, &f.task, request).await.unwrap();
}

async fn cancel(f: &Fixture, session: &Session, message: &MessageId) {
    let request = p::CancelPromptRequest {
        session_id: session.session_id.to_string(),
        message_id: message.to_string(),
        ..Default::default()
    };
    cancel_prompt(&f.shared, &f.task, request).await.unwrap();
}

async fn turn(f: &Fixture, session: &Session, message: &MessageId) -> Turn {
    turns::find(&f.shared.store, &session.session_id, message).await.unwrap().unwrap()
}

#[tokio::test]
async fn stops_the_named_turn_even_before_it_comes_and_no_other() {
    let f = Fixture::new().await;
    let sandbox = f.ensure().await;
    let session = f.made_ready(&f.session(&sandbox).await).await;
    let (first, second) = (MessageId::generate(&f.env.env), MessageId::generate(&f.env.env));
    prompt(&f, &session, &first).await;
    cancel(&f, &session, &second).await;
    cancel(&f, &session, &second).await;
    assert!(!turn(&f, &session, &first).await.cancel_requested, "another turn runs on");

    end_turn(&f.shared, &session.session_id, &first, &TurnEnd::default()).await.unwrap();
    // Too late: the turn it names has ended.
    cancel(&f, &session, &first).await;
    prompt(&f, &session, &second).await;
    let there = turn(&f, &session, &second).await;
    assert_eq!((there.state, there.cancel_requested), (TurnState::Intended, true));
    f.run().await;
    assert_eq!(turn(&f, &session, &second).await.state, TurnState::Ended);
    let after = f.again(&session).await;
    assert_eq!((after.state, after.turn_count, after.last_offset), (SessionState::Ready, 2, 2));
    let rows = "SELECT outcome FROM turns WHERE cancel_requested = 1";
    let rows = f.shared.store.query(rows, &[]).await.unwrap();
    assert_eq!(rows[0].int("outcome").unwrap(), i64::from(i32::from(TurnOutcome::Cancelled)));
}
