//! The sandbox flow under the engine's proofs, hanging providers, and deaths.

use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{Env, Error, FlowId, SandboxId};
use foundry_flow::proofs::{self, World, prove};
use foundry_flow::{Binding, Flow};
use foundry_proto::common::v1::StageState;
use foundry_store::Store;

use super::{bindings, destroy, sandbox};
use crate::domain::SandboxState;
use crate::ops;
use crate::runtime::{check_all, sweep};
use crate::shared::Shared;
use crate::store::sandboxes;
use crate::testing::Fixture;

/// A sandbox that is being made, or one that is being destroyed.
struct Sandboxes {
    f: Fixture,
    flow: &'static Flow<Shared>,
}

#[async_trait]
impl World for Sandboxes {
    fn store(&self) -> &Store {
        &self.f.shared.store
    }

    fn env(&self) -> &Env {
        &self.f.env.env
    }

    fn advance(&self, d: Duration) {
        self.f.env.clock.advance(d);
    }

    fn flows(&self) -> Vec<Binding> {
        // The proofs follow one flow; other flows that were started stay where they are.
        bindings(&self.f.shared).into_iter().filter(|b| b.kind() == self.flow.kind).collect()
    }

    async fn start(&self) -> Result<FlowId, Error> {
        let made = self.f.ensure().await;
        if self.flow.kind == sandbox::SANDBOX.kind {
            return made.flow_id.parse();
        }
        self.f.run().await;
        let id = made.sandbox_id.to_string();
        self.f.provider.kill(&id);
        let request = foundry_proto::provisioner::v1::DestroySandboxRequest {
            sandbox_id: id.clone(),
            ..Default::default()
        };
        ops::destroy_sandbox::destroy_sandbox(&self.f.shared, &self.f.task, request).await?;
        self.f.sandbox(&id).await.flow_id.parse()
    }

    async fn effects(&self) -> Vec<String> {
        // Ids differ between worlds; how many there are does not.
        let host = self.f.provider.host();
        let mut all: Vec<String> = host.sandboxes.keys().map(|_| "sandbox".to_owned()).collect();
        all.extend(host.runtimes.keys().map(|_| "runtime".to_owned()));
        all
    }

    async fn shown(&self) -> String {
        let all = self.f.shared.store.query("SELECT sandbox_id FROM sandboxes", &[]).await.unwrap();
        let mut shown = String::new();
        for row in &all {
            let s = self.f.sandbox(row.text("sandbox_id").unwrap()).await;
            let stages: Vec<_> = s.stages.iter().map(|st| (st.name.clone(), st.state())).collect();
            shown += &format!("{:?} {} {} {stages:?}\n", s.state, s.runtime_instance, s.base_commit);
        }
        shown
    }
}

#[tokio::test]
async fn the_sandbox_flow_passes_all_proofs() {
    prove(&sandbox::SANDBOX, async || Sandboxes { f: Fixture::new().await, flow: &sandbox::SANDBOX }).await;
}

#[tokio::test]
async fn the_destroy_flow_resumes_after_crashes_and_failures() {
    let fresh = async || Sandboxes { f: Fixture::new().await, flow: &destroy::DESTROY };
    let (flow, expected) = (&destroy::DESTROY, &proofs::undisturbed(&fresh).await);
    proofs::resumes_after_a_crash_at_every_point(flow, &fresh, expected).await;
    proofs::survives_every_stage_run_twice(flow, &fresh, expected).await;
    proofs::ends_after_a_failure_at_every_stage(flow, &fresh, expected).await;
}

#[tokio::test]
async fn a_stage_that_hangs_times_out_visibly_and_is_repeated() {
    let f = Fixture::new().await;
    f.provider.host().hanging.insert("start_agent");
    let id = f.ensure().await.sandbox_id.to_string();
    let mut running = std::pin::pin!(f.engine.run_until_idle());
    loop {
        let time_passes = async {
            // The clock stays put once the stage has timed out, so that the next attempt does not become due.
            f.provider.until_hung().await;
            f.env.clock.wait_for_sleepers(1).await;
            f.env.clock.advance(Duration::from_secs(31));
            tokio::task::yield_now().await;
        };
        tokio::select! {
            biased;
            ended = &mut running => {
                ended.unwrap();
                break;
            }
            () = time_passes => {}
        };
    }
    let seen = f.sandbox(&id).await;
    assert_eq!((seen.state, seen.condition.attempt), (SandboxState::StartingAgent, 1));
    assert!(seen.condition.next_attempt_time.is_some(), "{:?}", seen.condition);
    assert!(seen.condition.message.starts_with("timeout: "), "{}", seen.condition.message);
    f.provider.host().hanging.clear();
    f.env.clock.advance(Duration::from_secs(60));
    f.run().await;
    let ready = f.sandbox(&id).await;
    assert_eq!(ready.state, SandboxState::Ready);
    assert!(ready.stages.iter().all(|s| s.state() == StageState::Done));
}

#[tokio::test]
async fn a_failure_says_its_class_and_what_to_do() {
    let f = Fixture::new().await;
    f.provider.host().failing.insert("allocate");
    let id = f.ensure().await.sandbox_id.to_string();
    f.run().await;
    let failed = f.sandbox(&id).await;
    assert_eq!((failed.state, failed.condition.reason.as_str()), (SandboxState::Error, "DISK_FULL"));
    assert!(failed.condition.message.starts_with("capacity: "), "{:?}", failed.condition);
    assert!(failed.condition.next_action.contains("free up space") && failed.condition.retryable);
}

#[tokio::test]
async fn a_dead_runtime_is_replaced_and_its_turn_is_cut_once() {
    let f = Fixture::new().await;
    let made = f.ensure().await;
    let id = made.sandbox_id.to_string();
    f.run().await;
    let session = f.made_ready(&f.session(&made).await).await;
    let prompt = foundry_proto::provisioner::v1::PromptAgentSessionRequest {
        session_id: session.session_id.to_string(),
        message_id: foundry_core::MessageId::generate(&f.env.env).to_string(),
        text: "hi".into(),
        ..Default::default()
    };
    f.run().await; // the session's own flow ends
    ops::prompt_agent_session::prompt_agent_session(&f.shared, &f.task, prompt).await.unwrap();
    f.provider.kill(&id);
    check_all(&f.shared).await;
    check_all(&f.shared).await;
    let vanished = f.sandbox(&id).await;
    assert_eq!((vanished.state, vanished.runtime_instance), (SandboxState::Vanished, 2));
    assert!(vanished.condition.message.contains("signal 9"), "{:?}", vanished.condition);
    let cut = f.again(&session).await;
    assert_eq!((cut.state.as_str(), cut.generation, cut.last_offset), ("interrupted", 2, 2));
    // The agent cannot be started in this world; the sandbox can.
    let restart = bindings(&f.shared).into_iter().filter(|b| b.kind() == sandbox::RESTART.kind).collect();
    let engine = foundry_flow::Engine::new(
        f.shared.store.clone(),
        f.env.env.clone(),
        restart,
        foundry_flow::Options::default(),
    );
    engine.unwrap().run_until_idle().await.unwrap();
    assert_eq!(f.sandbox(&id).await.state, SandboxState::Ready);
    assert_eq!(f.provider.host().started, ["run1", "run2"]);
}

#[tokio::test]
async fn a_ready_sandbox_says_that_its_runtime_cannot_be_reached_until_it_can() {
    let f = Fixture::new().await;
    let id = f.ensure().await.sandbox_id.to_string();
    f.run().await;
    f.provider.host().failing.insert("probe");
    check_all(&f.shared).await;
    let silent = f.sandbox(&id).await;
    assert_eq!(
        (silent.state, silent.condition.reason.as_str()),
        (SandboxState::Ready, "RUNTIME_UNREACHABLE")
    );
    check_all(&f.shared).await;
    assert_eq!(f.sandbox(&id).await.rev, silent.rev, "each round writes it again");
    f.provider.host().failing.clear();
    check_all(&f.shared).await;
    assert_eq!(f.sandbox(&id).await.condition.reason, "");
}

#[tokio::test]
async fn a_stranger_of_our_scheme_is_destroyed_after_a_grace_and_nobody_else() {
    let f = Fixture::new().await;
    let known = f.ensure().await.sandbox_id.to_string();
    f.run().await;
    let stranger = SandboxId::generate(&f.env.env).to_string();
    let other = "somebody-elses".to_owned();
    let now = f.env.env.clock.now();
    for name in [&stranger, &other] {
        f.provider.host().sandboxes.insert(name.parse().unwrap(), now);
    }
    sweep(&f.shared).await;
    assert_eq!(f.provider.names().len(), 3, "too young to be judged");
    f.env.clock.advance(Duration::from_secs(61));
    sweep(&f.shared).await;
    let mut left = f.provider.names();
    left.sort();
    assert_eq!(left, [known.clone(), other]);
    let state = sandboxes::find(&f.shared.store, &known.parse().unwrap()).await.unwrap().unwrap().state;
    assert_eq!(state, SandboxState::Ready);
}

#[tokio::test]
async fn a_sandbox_waits_until_it_is_known_how_it_is_kept_apart() {
    let f = Fixture::new().await;
    f.provider.host().undecided = true;
    let made = f.ensure().await;
    // Longer than the retries of a failing stage.
    for _ in 0..40 {
        f.run().await;
        f.env.clock.advance(Duration::from_secs(30));
    }
    let waits = f.sandbox(made.sandbox_id.as_str()).await;
    assert_eq!(
        (waits.state, waits.condition.reason.as_str()),
        (SandboxState::Allocating, "ISOLATION_UNDECIDED")
    );
    f.provider.host().undecided = false;
    f.env.clock.advance(Duration::from_secs(30));
    f.run().await;
    assert_eq!(f.sandbox(made.sandbox_id.as_str()).await.state, SandboxState::Ready);
}

#[tokio::test]
async fn a_sandbox_waits_as_long_as_it_is_told_for_its_base_and_shows_how_new_it_is() {
    let f = Fixture::new().await;
    f.provider.host().head = Some(f.repo.base.clone());
    *f.repo.fetching.lock().unwrap() = 2;
    let notice =
        foundry_proto::common::v1::Condition { reason: "BASE_NOT_FETCHED".into(), ..Default::default() };
    f.repo.notices.lock().unwrap().push(notice.clone());
    let made = f.ensure().await;
    for _ in 0..2 {
        f.run().await;
        let waits = f.sandbox(made.sandbox_id.as_str()).await;
        assert_eq!((waits.state, waits.condition.reason.as_str()), (SandboxState::PreparingRepo, "WAITING"));
        f.env.clock.advance(Duration::from_millis(40));
    }
    f.run().await;
    let ready = f.sandbox(made.sandbox_id.as_str()).await;
    let base = ready.to_proto().base.unwrap();
    assert_eq!((ready.state, &base.commit), (SandboxState::Ready, &f.repo.base));
    assert_eq!(base.notices, [notice]);
}
