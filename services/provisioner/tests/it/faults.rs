//! Providers that hang and fail, mirrors that are not ready yet.

use std::time::{Duration, Instant};

use foundry_proto::common::v1::StageState;
use foundry_proto::provisioner::v1 as p;

use crate::turns::destroy;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn answers_at_once_while_the_provider_hangs_and_goes_on_when_it_does() {
    let world = World::new();
    let mut life = world.start().await;
    world.fault("allocate.hang", "");
    let begun = Instant::now();
    let sandbox = world.ensure(&mut life, "fault").await;
    let session = world.session(&mut life, &sandbox, 0).await;
    // Generous for a busy machine: the provider never answers, and its stage times out only after a minute.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let id = sandbox.sandbox_id.clone();
    life.sandbox_in(&id, p::SandboxState::Allocating).await;

    // The same task gets the same sandbox.
    let again = p::EnsureSandboxRequest {
        organization_id: sandbox.organization_id.clone(),
        task_id: sandbox.task_id.clone(),
        repository_id: sandbox.repository_id.clone(),
        branch: "feat/story".into(),
        ..Default::default()
    };
    let same = life.client.ensure_sandbox(again).await.unwrap().into_inner().sandbox.unwrap();
    assert_eq!(same.sandbox_id, id);

    // Another one is cancelled while it hangs.
    let other = world.ensure(&mut life, "fault").await.sandbox_id;
    life.sandbox_in(&other, p::SandboxState::Allocating).await;
    destroy(&mut life, &other).await;

    // The flow continues once the provider answers; the mirror is not ready yet, and the status shows that.
    *world.repo.ready.lock().unwrap() = false;
    world.fault("start_agent.fail", "2");
    world.mend("allocate.hang");
    let waiting = life
        .sandbox_when(&id, "waiting for the mirror", |s| {
            s.condition.as_ref().is_some_and(|c| c.reason == "REPOSITORY_NOT_READY")
        })
        .await;
    assert_eq!(waiting.state(), p::SandboxState::PreparingRepo);
    *world.repo.ready.lock().unwrap() = true;
    let ready = life.sandbox_in(&id, p::SandboxState::Ready).await;
    let starting = ready.stages.iter().find(|s| s.name == "agent_starting").unwrap();
    assert_eq!((starting.attempts, starting.state()), (3, StageState::Done));
    life.session_in(&session.session_id, p::AgentSessionState::Ready).await;
    destroy(&mut life, &id).await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_what_is_wrong_and_goes_on_at_that_stage_when_retried() {
    let world = World::new();
    let mut life = world.start().await;
    let request = p::EnsureSandboxRequest {
        organization_id: world.organization.to_string(),
        task_id: foundry_core::TaskId::generate(&world.env).to_string(),
        repository_id: foundry_core::RepositoryId::generate(&world.env).to_string(),
        branch: "feat/story".into(),
        agent: "claude".into(),
        ..Default::default()
    };
    let bad = p::EnsureSandboxRequest { branch: "--upload-pack=x".into(), ..request.clone() };
    assert_eq!(life.client.ensure_sandbox(bad).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    let sandbox = life.client.ensure_sandbox(request).await.unwrap().into_inner().sandbox.unwrap();
    let failed = life.sandbox_in(&sandbox.sandbox_id, p::SandboxState::Error).await;
    let condition = failed.condition.unwrap();
    assert_eq!((condition.reason.as_str(), condition.retryable), ("AGENT_MODEL_MISSING", true));
    assert!(condition.message.contains("foundry model add"), "{}", condition.message);
    let state = |name: &str| failed.stages.iter().find(|s| s.name == name).unwrap().state();
    assert_eq!((state("repo_prepared"), state("agent_installing")), (StageState::Done, StageState::Failed));
    let retry = p::RetrySandboxRequest { sandbox_id: sandbox.sandbox_id.clone(), ..Default::default() };
    let retried = life.client.retry_sandbox(retry).await.unwrap().into_inner().sandbox.unwrap();
    assert_eq!(retried.state(), p::SandboxState::InstallingAgent);
    life.sandbox_in(&sandbox.sandbox_id, p::SandboxState::Error).await;
    destroy(&mut life, &sandbox.sandbox_id).await;
    life.stop().await;
}
