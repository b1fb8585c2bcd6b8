//! A sandbox from its creation to a bundle of work and its destruction.

use foundry_proto::common::v1::{StageState, TurnOutcome};
use foundry_proto::provisioner::v1 as p;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn runs_a_prompt_from_nothing_to_a_bundle_and_leaves_nothing_behind() {
    let world = World::new();
    let mut life = world.start().await;
    let sandbox = world.ensure(&mut life, "local").await;
    let id = sandbox.sandbox_id.clone();
    let session = world.session(&mut life, &sandbox, 0).await;
    assert_eq!(session.state(), p::AgentSessionState::Pending);

    let seen = life.session_in(&session.session_id, p::AgentSessionState::Ready).await;
    let names: Vec<&str> = seen.session.stages.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["session_creating", "ready"]);
    let ready = life.sandbox(&id).await;
    assert_eq!((ready.state(), ready.runtime_instance), (p::SandboxState::Ready, 1));
    assert!(ready.stages.iter().all(|s| s.state() == StageState::Done && s.attempts >= 1), "{ready:?}");
    assert_eq!(ready.base_commit, world.repo.base);

    let message =
        life.prompt(&session.session_id, "write hello.txt: Good day\nrun cat hello.txt\nsay all done").await;
    let seen = life.watch_until(&session.session_id, "the end of the turn", |s| !s.ends().is_empty()).await;
    assert_eq!(seen.ends()[0].outcome(), TurnOutcome::Completed);
    assert!(seen.words().contains("all done"), "{}", seen.words());
    assert!(seen.events.values().all(|part| part.message_id == message && part.runtime_instance == 1));
    let seen = life.session_in(&session.session_id, p::AgentSessionState::Ready).await;
    seen.assert_whole();

    let repo = world.repo.clone();
    life.sandbox_when(&id, "handed over", |_| repo.content("hello.txt").as_deref() == Some("Good day\n"))
        .await;

    let request = p::DestroySandboxRequest { sandbox_id: id.clone(), ..Default::default() };
    let answer = life.client.destroy_sandbox(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.sandbox.unwrap().state(), p::SandboxState::Destroying);
    let gone = life.sandbox_in(&id, p::SandboxState::Destroyed).await;
    assert!(gone.destroy_time.is_some());
    let root = std::fs::read_dir(world.dir.path().join("data/sandboxes")).unwrap();
    let left: Vec<_> = root.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().starts_with('.')), "{left:?}");
    let seen = life.session_in(&session.session_id, p::AgentSessionState::Closed).await;
    seen.assert_whole();
    life.client.destroy_sandbox(request).await.unwrap();
    life.stop().await;
}
