//! Prompts that never reach an agent.

use foundry_core::MessageId;
use foundry_proto::common::v1::{Publication, TurnOutcome};
use foundry_proto::provisioner::v1 as p;
use foundry_store::WriteSet;

use crate::domain::{SessionState, TurnState};
use crate::ops;
use crate::store::{sandboxes, turns};
use crate::testing::Fixture;
use crate::testing::agent::FakeAgent;

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

#[tokio::test]
async fn what_was_published_of_the_newest_work_is_adopted_before_a_prompt() {
    let commit = |n: u8| format!("{n:040x}");
    let cases = [
        ("published of this work", Some((commit(2), commit(1))), 1),
        ("published of an earlier work", Some((commit(2), commit(3))), 0),
        ("published as it is", Some((commit(1), commit(1))), 0),
        ("not published", None, 0),
    ];
    for (case, published, commands) in cases {
        let f = Fixture::new().await;
        let agent = FakeAgent::serve(&f).await;
        agent.says(0, "moved");
        // The end of a turn hands its work over.
        agent.ignore_prompts();
        let made = f.ensure().await;
        f.run().await;
        let session = f.made_ready(&f.session(&made).await).await;
        f.run().await;
        let sandbox = f.sandbox(session.sandbox_id.as_str()).await;
        let mut ws = WriteSet::new();
        sandboxes::update(&mut ws, &sandbox, vec![("work_head", commit(1).into())]);
        f.shared.store.commit(ws).await.unwrap();
        *f.repo.publication.lock().unwrap() = published.map(|(commit, work_commit)| Publication {
            branch: "feat/x".into(),
            commit,
            work_commit,
            ..Publication::default()
        });
        let before = agent.commands();
        let prompt = p::PromptAgentSessionRequest {
            session_id: session.session_id.to_string(),
            message_id: MessageId::generate(&f.env.env).to_string(),
            text: "hi".into(),
            ..Default::default()
        };
        ops::prompt_agent_session::prompt_agent_session(&f.shared, &f.task, prompt).await.unwrap();
        f.run().await;
        agent.until_requested("session/prompt").await;
        assert_eq!(agent.commands() - before, commands, "{case}");
    }
}
