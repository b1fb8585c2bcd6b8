//! Sessions that outlive their sandbox.

use foundry_core::{Code, MessageId};
use foundry_proto::provisioner::v1 as p;

use super::create_agent_session;
use crate::domain::{Sandbox, Session, SessionState};
use crate::ops;
use crate::testing::Fixture;

async fn create(
    f: &Fixture,
    sandbox: &Sandbox,
    session: &Session,
) -> Result<p::CreateAgentSessionResponse, foundry_core::Error> {
    let request = p::CreateAgentSessionRequest {
        sandbox_id: sandbox.sandbox_id.to_string(),
        session_id: session.session_id.to_string(),
        ..Default::default()
    };
    create_agent_session(&f.shared, &f.task, request).await
}

#[tokio::test]
async fn a_session_goes_on_in_the_next_sandbox_of_its_task() {
    let f = Fixture::new().await;
    let old = f.ensure().await;
    f.run().await;
    let session = f.made_ready(&f.session(&old).await).await;
    let prompt = p::PromptAgentSessionRequest {
        session_id: session.session_id.to_string(),
        message_id: MessageId::generate(&f.env.env).to_string(),
        text: "hi".into(),
        ..Default::default()
    };
    ops::prompt_agent_session::prompt_agent_session(&f.shared, &f.task, prompt).await.unwrap();
    let foreign = f.ensure().await;
    let taken = create(&f, &foreign, &session).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);

    f.provider.kill(old.sandbox_id.as_str());
    let destroy = p::DestroySandboxRequest { sandbox_id: old.sandbox_id.to_string(), ..Default::default() };
    ops::destroy_sandbox::destroy_sandbox(&f.shared, &f.task, destroy).await.unwrap();
    f.run().await;
    let closed = f.again(&session).await;
    let taken = create(&f, &foreign, &session).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists, "a sandbox of another task is no home");

    let wanted = p::EnsureSandboxRequest { task_id: old.task_id.clone(), ..f.wanted() };
    let next = ops::ensure_sandbox::ensure_sandbox(&f.shared, &f.task, wanted).await.unwrap();
    let next = f.sandbox(&next.sandbox.unwrap().sandbox_id).await;
    assert_eq!(next.runtime_instance, 2, "blocks and permissions of both sandboxes are told apart");
    let answer = create(&f, &next, &session).await.unwrap().agent_session.unwrap();
    assert_eq!(answer.state(), p::AgentSessionState::Pending);
    let moved = f.again(&session).await;
    assert_eq!((moved.state, &moved.sandbox_id), (SessionState::Pending, &next.sandbox_id));
    assert_eq!((moved.generation, moved.reported_generation), (2, 1), "the transcript will mention it");
    assert_eq!((moved.last_offset, moved.turn_count), (closed.last_offset, 1));
    assert_eq!((moved.acp_session.as_str(), &moved.cursor), ("", &Default::default()));
    assert_ne!(moved.flow_id, closed.flow_id);
    create(&f, &next, &session).await.unwrap();
    assert_eq!(f.again(&session).await.generation, 2, "once");
}
