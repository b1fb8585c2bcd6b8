//! The life of a sandbox with the real runtime, with and without bubblewrap.

mod common;

use common::{Host, eventually, name, processes_of, ready, source, start_spec};
use foundry_sandbox::{
    AgentKind, Class, CloneFuture, DeathCause, Destroyed, Health, IsolationMode, Presence, Provider as _,
    ProviderError, RuntimeClient,
};

const MODES: [IsolationMode; 2] = [IsolationMode::Auto, IsolationMode::Off];

#[tokio::test]
async fn goes_through_all_stages_twice_and_ends_without_a_trace() {
    for mode in MODES {
        let host = Host::new(mode);
        let provider = host.provider().await;
        let name = name();
        let (facts, client) = ready(&provider, &name).await;
        assert_eq!(provider.probe(&facts).await.unwrap(), Health::Alive);
        let agents = client.agents().await.unwrap();
        assert!(agents.iter().any(|a| a.id == "mock"), "{agents:?}");

        // Each stage again, as after a crash before its end was recorded.
        let first = provider.allocate(&name).await.unwrap();
        assert_eq!(provider.allocate(&name).await.unwrap(), first);
        let cloned = provider.prepare_repo(&name, &source()).await.unwrap().cloned;
        assert_eq!(cloned.branch, "main");
        provider.install_agent(&name, AgentKind::Demo).await.unwrap();
        assert_eq!(provider.start_agent(&start_spec(&name, "run2")).await.unwrap(), facts, "adopted");

        assert!(!processes_of(&name).is_empty());
        assert_eq!(provider.destroy(&name).await.unwrap(), Destroyed::Removed);
        assert_eq!(processes_of(&name), Vec::<i32>::new());
        assert_eq!(std::fs::read_dir(host.root()).unwrap().count(), 0);
        assert_eq!(provider.destroy(&name).await.unwrap(), Destroyed::AlreadyGone);
        let gone = provider.probe(&facts).await.unwrap();
        assert_eq!(gone, Health::Dead { cause: DeathCause::DirectoryMissing });
    }
}

#[tokio::test]
async fn adopts_a_living_runtime_by_its_facts_after_a_restart_of_the_mesh() {
    for mode in MODES {
        let host = Host::new(mode);
        let name = name();
        let (facts, _) = ready(&host.provider().await, &name).await;
        let stored = serde_json::to_string(&facts).unwrap();

        let next = host.provider().await;
        let facts = serde_json::from_str(&stored).unwrap();
        assert_eq!(next.probe(&facts).await.unwrap(), Health::Alive);
        let owned = next.list_owned().await.unwrap();
        assert_eq!((owned.len(), owned[0].runtime.as_ref()), (1, Some(&facts)));
        assert_eq!(next.start_agent(&start_spec(&name, "run2")).await.unwrap(), facts);
        next.destroy(&name).await.unwrap();
    }
}

#[tokio::test]
async fn tells_how_a_killed_runtime_ended_and_starts_it_anew() {
    for mode in MODES {
        let host = Host::new(mode);
        let provider = host.provider().await;
        let name = name();
        let (facts, _) = ready(&provider, &name).await;
        assert!(facts.process().kill().unwrap());
        let cause = eventually("the runtime is found dead with how it ended", async || {
            match provider.probe(&facts).await.unwrap() {
                // For a moment it is gone and its end not yet recorded.
                Health::Dead { cause: DeathCause::Gone } => None,
                Health::Dead { cause } => Some(cause),
                _ => None,
            }
        })
        .await;
        let killed = [DeathCause::Killed { signal: 9 }, DeathCause::Exited { code: 137 }];
        assert!(killed.contains(&cause), "{cause:?}");
        assert_eq!(facts.process().presence(), Presence::Gone);

        let again = provider.start_agent(&start_spec(&name, "run2")).await.unwrap();
        assert_eq!(again.runtime_instance, "run2");
        assert_ne!((again.pid, again.start_time_ticks), (facts.pid, facts.start_time_ticks));
        assert_eq!(provider.probe(&again).await.unwrap(), Health::Alive);
        provider.destroy(&name).await.unwrap();
    }
}

#[tokio::test]
async fn never_adopts_a_recycled_pid_nor_one_of_an_earlier_boot() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, _) = ready(&provider, &name).await;
    let mut recycled = facts.clone();
    recycled.start_time_ticks += 1;
    recycled.runtime_instance = "other".into();
    assert_eq!(provider.probe(&recycled).await.unwrap(), Health::Dead { cause: DeathCause::PidRecycled });
    let mut earlier = facts.clone();
    earlier.boot_id = "another".into();
    assert_eq!(provider.probe(&earlier).await.unwrap(), Health::Dead { cause: DeathCause::MachineRebooted });
    let mut stranger = facts.clone();
    stranger.token = "wrong".into();
    assert!(matches!(provider.probe(&stranger).await.unwrap(), Health::Unknown { .. }));
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn starts_one_runtime_when_two_workers_start_it_at_once() {
    let host = Host::new(IsolationMode::Auto);
    let (one, two) = (host.provider().await, host.provider().await);
    let name = name();
    one.allocate(&name).await.unwrap();
    one.prepare_repo(&name, &source()).await.unwrap();
    one.install_agent(&name, AgentKind::Demo).await.unwrap();
    let (first, second) = (start_spec(&name, "a"), start_spec(&name, "b"));
    let (a, b) = tokio::join!(one.start_agent(&first), two.start_agent(&second));
    let facts = a.unwrap();
    assert_eq!(facts, b.unwrap());
    // And again, when the facts of a dead one are there.
    facts.process().kill().unwrap();
    eventually("it is dead", async || (facts.process().presence() == Presence::Gone).then_some(())).await;
    let (a, b) = tokio::join!(one.start_agent(&first), two.start_agent(&second));
    let next = a.unwrap();
    assert_eq!((next.pid == facts.pid, &next), (false, &b.unwrap()));
    one.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn makes_one_sandbox_and_one_work_tree_when_two_workers_do_it_at_once() {
    let host = Host::new(IsolationMode::Auto);
    let (one, two) = (host.provider().await, host.provider().await);
    let name = name();
    let (a, b) = tokio::join!(one.allocate(&name), two.allocate(&name));
    assert_eq!(a.unwrap(), b.unwrap());
    let clone = source();
    let (a, b) = tokio::join!(one.prepare_repo(&name, &clone), two.prepare_repo(&name, &clone));
    assert_eq!(a.unwrap(), b.unwrap());
    let dir = host.root().join(name.as_str());
    assert_eq!(std::fs::read_to_string(dir.join("repo/workspace/README.md")).unwrap(), "hello\n");
    let left = std::fs::read_dir(dir).unwrap().flatten();
    assert!(left.map(|e| e.file_name()).all(|n| !n.to_string_lossy().contains("new")));
    one.destroy(&name).await.unwrap();
    assert_eq!(std::fs::read_dir(host.root()).unwrap().count(), 0);
}

#[tokio::test]
async fn keeps_nothing_of_a_clone_that_failed_and_makes_it_at_the_next_try() {
    let host = Host::new(IsolationMode::Off);
    let provider = host.provider().await;
    let name = name();
    provider.allocate(&name).await.unwrap();
    let failing = |destination: std::path::PathBuf| -> CloneFuture {
        Box::pin(async move {
            std::fs::create_dir(&destination).unwrap();
            Err(ProviderError::new(Class::Provider, "CLONE_FAILED", "planted"))
        })
    };
    assert_eq!(provider.prepare_repo(&name, &failing).await.unwrap_err().reason, "CLONE_FAILED");
    assert!(!host.root().join(name.as_str()).join("repo").exists());
    assert_eq!(provider.prepare_repo(&name, &source()).await.unwrap().cloned.branch, "main");
    // Prepared is prepared: the source is not asked again.
    assert_eq!(provider.prepare_repo(&name, &failing).await.unwrap().cloned.branch, "main");
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn ends_processes_that_outlived_a_killed_supervisor() {
    let host = Host::new(IsolationMode::Off);
    let provider = host.provider().await;
    let name = name();
    let (facts, _) = ready(&provider, &name).await;
    let file = host.root().join(name.as_str()).join("runtime.supervisor.json");
    let supervisor: foundry_sandbox::ProcessRef =
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(supervisor.kill().unwrap());
    eventually("the supervisor is gone", async || (supervisor.presence() == Presence::Gone).then_some(()))
        .await;
    assert_eq!(provider.probe(&facts).await.unwrap(), Health::Alive, "the runtime outlives it");
    assert_eq!(provider.destroy(&name).await.unwrap(), Destroyed::Removed);
    assert_eq!(processes_of(&name), Vec::<i32>::new());
    assert_eq!(facts.process().presence(), Presence::Gone);
}

#[tokio::test]
async fn says_what_is_wrong_when_the_runtime_cannot_start() {
    let host = Host::new(IsolationMode::Off);
    let provider = host.provider().await;
    let name = name();
    assert_eq!(provider.start_agent(&start_spec(&name, "a")).await.unwrap_err().reason, "SANDBOX_MISSING");
    provider.allocate(&name).await.unwrap();
    assert_eq!(provider.start_agent(&start_spec(&name, "a")).await.unwrap_err().reason, "REPO_NOT_PREPARED");
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn refuses_a_call_with_a_wrong_token_and_names_a_missing_agent() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, client) = ready(&provider, &name).await;
    let acp = "agt_1".parse().unwrap();
    let id = foundry_sandbox::RequestId("run1/initialize".into());
    let e = client.initialize(&acp, AgentKind::Codex, &id, &Default::default()).await.unwrap_err();
    assert!(e.to_string().contains("not installed"), "{e}");
    let mut stranger = facts.clone();
    stranger.token = "wrong".into();
    let stranger = RuntimeClient::new(&stranger, foundry_core::Env::system()).unwrap();
    assert!(stranger.health().await.unwrap_err().to_string().contains("401"));
    provider.destroy(&name).await.unwrap();
}
