//! Restarts of the mesh, deaths of runtimes and agents.

use foundry_proto::common::v1::{NoticeKind, TurnOutcome};
use foundry_proto::provisioner::v1 as p;
use foundry_sandbox::{ProcessRef, RuntimeFacts};

use crate::turns::destroy;
use crate::world::World;

/// The process of the runtime in this file of facts of the local provider.
fn process(facts: &std::path::Path) -> ProcessRef {
    let facts: RuntimeFacts = serde_json::from_slice(&std::fs::read(facts).unwrap()).unwrap();
    serde_json::from_value(facts.place["process"].clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_a_living_turn_over_a_restart_and_survives_deaths() {
    let world = World::new();
    let mut life = world.start().await;
    let sandbox = world.ensure(&mut life, "local").await;
    let id = sandbox.sandbox_id.clone();
    let session = world.session(&mut life, &sandbox, 0).await.session_id;
    life.session_in(&session, p::AgentSessionState::Ready).await;

    // The mesh stops during a turn; the sandbox keeps running.
    life.prompt(&session, "say before\nwait 3 seconds\nsay after").await;
    life.watch_until(&session, "the first words", |s| s.words().contains("before")).await;
    let survivors = life.survivors.clone();
    life.stop().await;
    assert_eq!(survivors.sandboxes(), std::slice::from_ref(&id));
    let mut life = world.start().await;
    let seen = life.watch_until(&session, "the end", |s| !s.ends().is_empty()).await;
    assert_eq!(seen.ends()[0].outcome(), TurnOutcome::Completed);
    assert_eq!(seen.words().matches("after").count(), 1, "{}", seen.words());
    assert_eq!(life.sandbox(&id).await.runtime_instance, 1, "adopted");
    life.session_in(&session, p::AgentSessionState::Ready).await.assert_whole();

    // Only the agent dies.
    life.prompt(&session, "say going\ncrash").await;
    let seen = life
        .watch_until(&session, "a new agent", |s| {
            s.ends().len() == 2 && s.state() == p::AgentSessionState::Ready
        })
        .await;
    assert_eq!(seen.ends()[1].outcome(), TurnOutcome::Interrupted);
    assert_eq!(seen.notices(), [NoticeKind::AgentExited, NoticeKind::ContextRebuilt]);
    life.prompt(&session, "say hello again").await;
    let seen = life.watch_until(&session, "the answer", |s| s.ends().len() == 3).await;
    assert_eq!(seen.ends()[2].outcome(), TurnOutcome::Completed);

    // The whole runtime dies during a turn.
    life.prompt(&session, "say one\nwait 60 seconds").await;
    life.watch_until(&session, "words", |s| s.words().contains("one")).await;
    let facts = world.dir.path().join("data/sandboxes").join(&id).join("runtime.json");
    assert!(process(&facts).kill().unwrap());
    let seen = life
        .watch_until(&session, "a new runtime", |s| {
            s.ends().len() == 4 && s.state() == p::AgentSessionState::Ready
        })
        .await;
    assert_eq!(seen.ends()[3].outcome(), TurnOutcome::Interrupted);
    seen.assert_whole();
    assert_eq!(life.sandbox(&id).await.runtime_instance, 2);
    let message = life.prompt(&session, "say back").await;
    let seen = life.watch_until(&session, "the answer", |s| s.ends().len() == 5).await;
    let last = seen.events.values().filter(|e| e.message_id == message);
    assert!(last.clone().count() > 0 && last.clone().all(|e| e.runtime_instance == 2));

    // It dies while the mesh is away.
    life.stop().await;
    let facts = world.dir.path().join("data/sandboxes").join(&id).join("runtime.json");
    assert!(process(&facts).kill().unwrap());
    let mut life = world.start().await;
    life.sandbox_when(&id, "the third", |s| s.runtime_instance == 3 && s.state() == p::SandboxState::Ready)
        .await;
    life.session_in(&session, p::AgentSessionState::Ready).await.assert_whole();
    destroy(&mut life, &id).await;
    life.stop().await;
}
