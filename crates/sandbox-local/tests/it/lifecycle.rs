//! The life of a sandbox with the real runtime, with and without bubblewrap.

use foundry_core::Env;
use foundry_runtime_client::ClientError;
use foundry_sandbox::key::RuntimeKey;
use foundry_sandbox::{
    Class, CloneFuture, DeathCause, Destroyed, Health, Presence, ProcessRef, Provider as _, ProviderError,
    RuntimeFacts,
};
use foundry_sandbox_local::IsolationMode;

use crate::common::{
    Host, WAYS, alive, eventually, installed, name, process, processes_of, ready, source, start_spec,
};

#[tokio::test]
async fn goes_through_all_stages_twice_and_ends_without_a_trace() {
    for way in WAYS {
        let host = Host::by(way);
        let provider = host.provider().await;
        let name = name();
        let (facts, client) = ready(&host, &provider, &name).await;
        alive(&provider, &facts).await;
        assert!(client.agents().await.unwrap().is_empty());

        // Each stage again, as after a crash before its end was recorded.
        let first = provider.allocate(&name).await.unwrap();
        assert_eq!(provider.allocate(&name).await.unwrap(), first);
        let cloned = provider.prepare_repo(&name, &source()).await.unwrap().cloned;
        assert_eq!(cloned.branch, "main");
        installed(&provider, &name).await;
        assert_eq!(provider.start_agent(&start_spec(&name, "run2")).await.unwrap(), facts, "adopted");

        assert!(!processes_of(&name).is_empty());
        assert_eq!(provider.destroy(&name).await.unwrap(), Destroyed::Removed);
        assert_eq!(processes_of(&name), Vec::<i32>::new());
        assert_eq!(host.left(), Vec::<String>::new());
        assert_eq!(provider.destroy(&name).await.unwrap(), Destroyed::AlreadyGone);
        let gone = provider.probe(&facts).await.unwrap();
        assert_eq!(gone, Health::Dead { cause: DeathCause::DirectoryMissing });
    }
}

#[tokio::test]
async fn adopts_a_living_runtime_by_its_facts_after_a_restart_of_the_mesh() {
    for way in WAYS {
        let host = Host::by(way);
        let name = name();
        let (facts, _) = ready(&host, &host.provider().await, &name).await;
        let stored = serde_json::to_string(&facts).unwrap();

        let next = host.provider().await;
        let facts = serde_json::from_str(&stored).unwrap();
        alive(&next, &facts).await;
        let owned = next.list_owned().await.unwrap();
        assert_eq!((owned.len(), owned[0].runtime.as_ref()), (1, Some(&facts)));
        assert_eq!(next.start_agent(&start_spec(&name, "run2")).await.unwrap(), facts);
        next.destroy(&name).await.unwrap();
    }
}

#[tokio::test]
async fn tells_how_a_killed_runtime_ended_and_starts_it_anew() {
    for way in WAYS {
        let host = Host::by(way);
        let provider = host.provider().await;
        let name = name();
        let (facts, _) = ready(&host, &provider, &name).await;
        assert!(process(&facts).kill().unwrap());
        let cause = eventually("the runtime is found dead with how it ended", async || {
            match provider.probe(&facts).await.unwrap() {
                // For a moment the process is gone and its exit is not recorded yet.
                Health::Dead { cause: DeathCause::Gone } => None,
                Health::Dead { cause } => Some(cause),
                _ => None,
            }
        })
        .await;
        let killed = [DeathCause::Killed { signal: 9 }, DeathCause::Exited { code: 137 }];
        assert!(killed.contains(&cause), "{cause:?}");
        assert_eq!(process(&facts).presence(), Presence::Gone);

        let again = provider.start_agent(&start_spec(&name, "run2")).await.unwrap();
        assert_eq!(again.runtime_instance, "run2");
        assert_ne!((process(&again), &again.key), (process(&facts), &facts.key));
        alive(&provider, &again).await;
        provider.destroy(&name).await.unwrap();
    }
}

#[tokio::test]
async fn never_adopts_a_recycled_pid_nor_one_of_an_earlier_boot() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let name = name();
    let (facts, _) = ready(&host, &provider, &name).await;
    let with = |change: fn(&mut ProcessRef)| {
        let mut other = facts.clone();
        let mut process = process(&facts);
        change(&mut process);
        other.place["process"] = serde_json::to_value(process).unwrap();
        other.runtime_instance = "other".into();
        other
    };
    let recycled = with(|p| p.start_time_ticks += 1);
    assert_eq!(provider.probe(&recycled).await.unwrap(), Health::Dead { cause: DeathCause::PidRecycled });
    let earlier = with(|p| p.boot_id = "another".into());
    assert_eq!(provider.probe(&earlier).await.unwrap(), Health::Dead { cause: DeathCause::MachineRebooted });
    let stranger = RuntimeFacts { key: RuntimeKey::generate(&Env::system()), ..facts.clone() };
    assert!(matches!(provider.probe(&stranger).await.unwrap(), Health::Unknown { .. }));
    // Facts of an older version, whose runtime this version cannot talk to.
    let old = RuntimeFacts { place: serde_json::Value::Null, ..facts.clone() };
    assert_eq!(provider.probe(&old).await.unwrap(), Health::Dead { cause: DeathCause::Gone });
    provider.destroy(&name).await.unwrap();
}

/// F13: a worker that found nothing running ended what another was just starting.
#[tokio::test]
async fn starts_one_runtime_however_many_workers_start_it_at_once() {
    let host = Host::new(IsolationMode::Auto);
    let name = name();
    let first = host.provider().await;
    first.allocate(&name).await.unwrap();
    first.prepare_repo(&name, &source()).await.unwrap();
    let mut last: Option<RuntimeFacts> = None;
    for _ in 0..3 {
        let mut workers = Vec::new();
        for number in 0..6 {
            workers.push((host.provider().await, start_spec(&name, &format!("w{number}"))));
        }
        let starts = workers.iter().map(|(provider, spec)| provider.start_agent(spec));
        let all = futures::future::join_all(starts).await;
        let facts = all[0].as_ref().unwrap();
        assert!(all.iter().all(|f| f.as_ref().unwrap() == facts), "{all:?}");
        alive(&first, facts).await;
        assert_ne!(last.as_ref().map(process), Some(process(facts)));
        // And again, when the facts of a dead one are there.
        process(facts).kill().unwrap();
        eventually("it is dead", async || (process(facts).presence() == Presence::Gone).then_some(())).await;
        last = Some(facts.clone());
    }
    first.destroy(&name).await.unwrap();
}

/// A destruction and starts at the same time: whichever is first, nothing is left.
#[tokio::test]
async fn leaves_nothing_when_a_sandbox_is_destroyed_while_it_is_started() {
    let host = Host::new(IsolationMode::Auto);
    let (one, two) = (host.provider().await, host.provider().await);
    let name = name();
    one.allocate(&name).await.unwrap();
    one.prepare_repo(&name, &source()).await.unwrap();
    let spec = start_spec(&name, "a");
    let (_, destroyed) = tokio::join!(one.start_agent(&spec), two.destroy(&name));
    destroyed.unwrap();
    one.destroy(&name).await.unwrap();
    assert_eq!(processes_of(&name), Vec::<i32>::new());
    assert_eq!(host.left(), Vec::<String>::new());
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
    assert_eq!(host.left(), Vec::<String>::new());
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
    // An interrupted clone leaves its directory until a later one is complete.
    let cut = host.root().join(name.as_str()).join("repo.new-cut");
    std::fs::create_dir_all(cut.join("workspace")).unwrap();
    std::fs::File::open(&cut).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(provider.prepare_repo(&name, &source()).await.unwrap().cloned.branch, "main");
    assert!(!cut.exists());
    // A prepared tree stays: the source is not called again.
    assert_eq!(provider.prepare_repo(&name, &failing).await.unwrap().cloned.branch, "main");
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn ends_processes_that_outlived_a_killed_supervisor() {
    let host = Host::new(IsolationMode::Off);
    let provider = host.provider().await;
    let name = name();
    let (facts, _) = ready(&host, &provider, &name).await;
    let file = host.root().join(name.as_str()).join("runtime.supervisor.json");
    let supervisor: ProcessRef = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(supervisor.kill().unwrap());
    eventually("the supervisor is gone", async || (supervisor.presence() == Presence::Gone).then_some(()))
        .await;
    // The runtime outlives it.
    alive(&provider, &facts).await;
    assert_eq!(provider.destroy(&name).await.unwrap(), Destroyed::Removed);
    assert_eq!(processes_of(&name), Vec::<i32>::new());
    assert_eq!(process(&facts).presence(), Presence::Gone);
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

/// F5 and F6: without the key, neither a caller nor a runtime is trusted or learns anything.
#[tokio::test]
async fn refuses_callers_without_the_key_and_believes_no_stranger_in_the_runtimes_place() {
    for way in WAYS {
        let host = Host::by(way);
        let provider = host.provider().await;
        let name = name();
        let (facts, client) = ready(&host, &provider, &name).await;
        client.health().await.unwrap();
        // The caller has another key: it rejects the runtime, and the runtime rejects it.
        let other = RuntimeFacts { key: RuntimeKey::generate(&Env::system()), ..facts.clone() };
        let e = host.client(&provider, &other).health().await.unwrap_err();
        assert!(matches!(e, ClientError::Stranger(_)), "{e}");
        let key = facts.key.expose();
        for pid in processes_of(&name).into_iter().chain([process(&facts).pid]) {
            for file in ["cmdline", "environ"] {
                let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                assert!(!String::from_utf8_lossy(&text).contains(key), "the key stands in {file} of {pid}");
            }
        }
        provider.destroy(&name).await.unwrap();
    }
}
