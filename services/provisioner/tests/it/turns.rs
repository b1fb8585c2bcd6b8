//! Turns: permissions, cancels, follow-ups.

use foundry_proto::common::v1::{PermissionPolicy, TurnOutcome};
use foundry_proto::provisioner::v1 as p;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn asks_answers_cancels_and_refuses_in_one_session() {
    let world = World::new();
    let mut life = world.start().await;
    let sandbox = world.ensure(&mut life, "local").await;
    let session = world.session(&mut life, &sandbox, 0).await.session_id;
    life.session_in(&session, p::AgentSessionState::Ready).await;

    // A person answers.
    let message = life.prompt(&session, "ask before running `echo asked`").await;
    let seen = life.watch_until(&session, "a question", |s| s.session.pending_permission.is_some()).await;
    let asked = seen.session.pending_permission.clone().unwrap();
    assert_eq!(seen.session.condition.as_ref().unwrap().reason, "PERMISSION_PENDING");
    let busy = p::PromptAgentSessionRequest {
        session_id: session.clone(),
        message_id: foundry_core::MessageId::generate(&world.env).to_string(),
        text: "say no".into(),
        ..Default::default()
    };
    let refused = life.client.prompt_agent_session(busy.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let answer = p::RespondToPermissionRequest {
        session_id: session.clone(),
        permission_id: asked.permission_id.clone(),
        option_id: asked.options[0].option_id.clone(),
        ..Default::default()
    };
    life.client.respond_to_permission(answer.clone()).await.unwrap();
    life.client.respond_to_permission(answer.clone()).await.unwrap();
    let other = p::RespondToPermissionRequest { option_id: String::new(), ..answer };
    let late = life.client.respond_to_permission(other).await.unwrap_err();
    assert_eq!(late.code(), tonic::Code::FailedPrecondition);
    let seen = life.watch_until(&session, "the end", |s| s.ends().len() == 1).await;
    assert_eq!(seen.ends()[0].outcome(), TurnOutcome::Completed);

    // The same prompt again starts no second turn.
    let repeat = p::PromptAgentSessionRequest { message_id: message, ..busy };
    life.client.prompt_agent_session(repeat).await.unwrap();

    // A turn that hangs is stopped.
    life.prompt(&session, "hang").await;
    let cancel = p::CancelPromptRequest { session_id: session.clone(), ..Default::default() };
    life.client.cancel_prompt(cancel.clone()).await.unwrap();
    let seen = life.watch_until(&session, "the cancel", |s| s.ends().len() == 2).await;
    assert_eq!(seen.ends()[1].outcome(), TurnOutcome::Cancelled);
    life.client.cancel_prompt(cancel).await.unwrap();

    // An unanswered question does not keep a turn from being cancelled.
    life.prompt(&session, "ask for 3 permissions at once").await;
    life.watch_until(&session, "questions", |s| s.session.pending_permission.is_some()).await;
    let cancel = p::CancelPromptRequest { session_id: session.clone(), ..Default::default() };
    life.client.cancel_prompt(cancel).await.unwrap();
    let seen = life.watch_until(&session, "the cancel", |s| s.ends().len() == 3).await;
    assert_eq!(seen.ends()[2].outcome(), TurnOutcome::Cancelled);

    // The policy answers.
    let allowed = world.session(&mut life, &sandbox, PermissionPolicy::Allow.into()).await.session_id;
    life.session_in(&allowed, p::AgentSessionState::Ready).await;
    life.prompt(&allowed, "ask before running `echo allowed`").await;
    let seen = life.watch_until(&allowed, "the end", |s| s.ends().len() == 1).await;
    assert_eq!(seen.ends()[0].outcome(), TurnOutcome::Completed);
    seen.assert_whole();

    // The agent reports an error.
    life.prompt(&allowed, "fail with no luck").await;
    let seen = life.watch_until(&allowed, "the error", |s| s.ends().len() == 2).await;
    assert_eq!(seen.ends()[1].outcome(), TurnOutcome::Error);
    assert!(seen.ends()[1].message.contains("no luck"), "{:?}", seen.ends());

    let close = p::CloseAgentSessionRequest { session_id: allowed.clone(), ..Default::default() };
    life.client.close_agent_session(close).await.unwrap();
    life.session_in(&allowed, p::AgentSessionState::Closed).await;
    destroy(&mut life, &sandbox.sandbox_id).await;
    life.stop().await;
}

pub async fn destroy(life: &mut crate::world::Life, id: &str) {
    let request = p::DestroySandboxRequest { sandbox_id: id.to_owned(), ..Default::default() };
    life.client.destroy_sandbox(request).await.unwrap();
    life.sandbox_in(id, p::SandboxState::Destroyed).await;
}
