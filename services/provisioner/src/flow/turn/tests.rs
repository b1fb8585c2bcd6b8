//! Prompts that never reach an agent.

use foundry_core::MessageId;
use foundry_proto::common::v1::TurnOutcome;
use foundry_proto::provisioner::v1 as p;

use crate::domain::{SessionState, TurnState};
use crate::ops;
use crate::store::turns;
use crate::testing::Fixture;

#[tokio::test]
async fn a_delivery_that_fails_for_good_ends_its_turn_whatever_the_cause() {
    let f = Fixture::new().await;
    // There is no runtime to deliver to, and retries do not help.
    f.provider.host().failing.insert("allocate");
    let made = f.ensure().await;
    f.run().await;
    let session = f.made_ready(&f.session(&made).await).await;
    let message = MessageId::generate(&f.env.env);
    let prompt = p::PromptAgentSessionRequest {
        session_id: session.session_id.to_string(),
        message_id: message.to_string(),
        text: "hi".into(),
        ..Default::default()
    };
    ops::prompt_agent_session::prompt_agent_session(&f.shared, &f.task, prompt).await.unwrap();
    f.run().await;
    let turn = turns::find(&f.shared.store, &session.session_id, &message).await.unwrap().unwrap();
    assert_eq!(turn.state, TurnState::Ended);
    let after = f.again(&session).await;
    assert_eq!((after.state, after.last_offset), (SessionState::Ready, session.last_offset + 1));
    let rows = f.shared.store.query("SELECT outcome FROM turns", &[]).await.unwrap();
    assert_eq!(rows[0].int("outcome").unwrap(), i64::from(i32::from(TurnOutcome::Error)));
}
