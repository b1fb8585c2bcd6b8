//! The sandbox flow, and its shorter form after a runtime died.
//!
//! | stage             | does                                                    | limit   |
//! |-------------------|---------------------------------------------------------|---------|
//! | sandbox_allocated | reserves it at the provider under the sandbox's id       | 60 s    |
//! | repo_prepared     | asks repo where to clone from, clones the task's branch  | 15 min  |
//! | agent_installing  | installs the default agent               | 6 min   |
//! | agent_starting    | starts the runtime, or adopts the one that runs          | 90 s    |
//! | agent_ready       | looks whether it answers; sessions may begin             | 30 s    |
//!
//! Nothing is undone here: whoever cancels the flow destroys the sandbox.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{FlowId, SandboxId};
use foundry_flow::{
    Binding, Flow, FlowStatus, NewFlow, Outcome, Stage, StageContext, StageSpec, Status, enqueue, signal,
};
use foundry_sandbox::{CloneFuture, ClonedRepo, Health, StartSpec};
use foundry_store::{Scope, WriteSet};
use serde::{Deserialize, Serialize};

use super::{Halt, PATIENT, agent, outcome};
use crate::domain::fold::instance_number;
use crate::domain::offer::Start;
use crate::domain::{SANDBOX_STAGES, Sandbox, SandboxState};
use crate::providers::isolation_text;
use crate::shared::{Shared, name_of};
use crate::store::{Set, condition_value, sandboxes, stages};

mod clone;

const STARTING: StageSpec = StageSpec::new("agent_starting", Duration::from_secs(90), PATIENT);
const READY: StageSpec = StageSpec::new("agent_ready", Duration::from_secs(30), PATIENT);

/// Makes a sandbox.
pub static SANDBOX: Flow = Flow::new(
    "sandbox",
    &[
        StageSpec::new("sandbox_allocated", Duration::from_secs(60), PATIENT),
        StageSpec::new("repo_prepared", Duration::from_secs(900), PATIENT),
        StageSpec::new("agent_installing", Duration::from_secs(360), PATIENT),
        STARTING,
        READY,
    ],
)
// As many as the task service's own flow: calls that hang at one provider must not soon hold up those at others.
.concurrency(64);

/// Starts a new runtime in a sandbox whose runtime died.
pub static RESTART: Flow = Flow::new("sandbox_restart", &[STARTING, READY]).concurrency(64);

/// What the stages hand on: the number of the runtime to start.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Instance {
    instance: i64,
}

/// What waits until it is known how sandboxes are kept apart waits for this; nothing signals it.
const UNDECIDED_KEY: &str = "isolation";
/// So often it is looked whether that is known.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What waits for a sandbox to become ready waits for this.
pub fn ready_key(id: &SandboxId) -> String {
    format!("sandbox/{id}")
}

/// Adds the flow of a new sandbox.
pub fn enqueue_new(ws: &mut WriteSet, sandbox: &Sandbox, flow_id: FlowId, traceparent: &str) {
    let id = sandbox.sandbox_id.as_str();
    let flow = NewFlow::new(&SANDBOX, flow_id, id, id).organization(&sandbox.organization_id);
    enqueue(ws, flow.on_behalf_of(sandbox.user_id.as_str()).traced(traceparent));
}

/// Adds the flow that starts a new runtime.
pub fn enqueue_restart(ws: &mut WriteSet, sandbox: &Sandbox, flow_id: FlowId) {
    let id = sandbox.sandbox_id.as_str();
    let flow = NewFlow::new(&RESTART, flow_id, id, id).organization(&sandbox.organization_id);
    enqueue(ws, flow.on_behalf_of(sandbox.user_id.as_str()));
}

/// The flow with its code.
pub fn binding(shared: &Arc<Shared>) -> Binding {
    let step = |step| Step { shared: Arc::clone(shared), step };
    Binding::new(&SANDBOX)
        .stage("sandbox_allocated", step(Does::Allocate))
        .stage("repo_prepared", step(Does::Prepare))
        .stage("agent_installing", step(Does::Install))
        .stage("agent_starting", step(Does::Start))
        .stage("agent_ready", step(Does::Probe))
        .projection(|flow: &FlowStatus| project(&SANDBOX, flow))
}

/// The shorter flow with its code.
pub fn restart_binding(shared: &Arc<Shared>) -> Binding {
    let step = |step| Step { shared: Arc::clone(shared), step };
    Binding::new(&RESTART)
        .stage("agent_starting", step(Does::Start))
        .stage("agent_ready", step(Does::Probe))
        .projection(|flow: &FlowStatus| project(&RESTART, flow))
}

fn project(spec: &Flow, flow: &FlowStatus) -> WriteSet {
    let mut ws = WriteSet::new();
    let Some(organization) = &flow.organization_id else { return ws };
    stages::record(&mut ws, &flow.subject_id, flow, &SANDBOX_STAGES);
    let state = match flow.status {
        Status::Done => SandboxState::Ready,
        Status::Failed => SandboxState::Error,
        // Whoever cancels says what it is now.
        Status::Cancelled => return touched(ws, organization, flow, Set::new()),
        _ => SandboxState::of_stage(&flow.stage),
    };
    let condition = condition_value(&super::condition(spec, flow));
    touched(ws, organization, flow, vec![("state", state.as_str().into()), ("condition", condition)])
}

fn touched(
    mut ws: WriteSet,
    organization: &foundry_core::OrganizationId,
    flow: &FlowStatus,
    set: Set,
) -> WriteSet {
    sandboxes::update_as(&mut ws, organization, &flow.subject_id, flow.flow_id.as_str(), set);
    ws
}

#[derive(Clone, Copy)]
enum Does {
    Allocate,
    Prepare,
    Install,
    Start,
    Probe,
}

struct Step {
    shared: Arc<Shared>,
    step: Does,
}

#[async_trait]
impl Stage for Step {
    async fn run(&self, ctx: &StageContext) -> Outcome {
        let result = async {
            let sandbox = load(&self.shared, ctx).await?;
            match self.step {
                Does::Allocate => self.allocate(ctx, &sandbox).await,
                Does::Prepare => self.prepare(ctx, &sandbox).await,
                Does::Install => self.install(ctx, &sandbox).await,
                Does::Start => self.start(ctx, &sandbox).await,
                Does::Probe => self.probe(ctx, &sandbox).await,
            }
        };
        outcome(result.await)
    }
}

/// The sandbox of a flow, as long as the flow is the one that moves it.
async fn load(shared: &Shared, ctx: &StageContext) -> Result<Sandbox, Halt> {
    let id: SandboxId = ctx.subject_id().parse()?;
    let sandbox = sandboxes::find(&shared.store, &id).await?;
    match sandbox {
        Some(sandbox) if sandbox.flow_id == ctx.flow_id().as_str() => Ok(sandbox),
        _ => Err(Outcome::fail("SUPERSEDED", "another flow has taken over this sandbox").into()),
    }
}

impl Step {
    fn record(&self, ctx: &StageContext, sandbox: &Sandbox, set: Set) -> WriteSet {
        let mut ws = WriteSet::new();
        let flow = ctx.flow_id().as_str();
        sandboxes::update_as(&mut ws, &sandbox.organization_id, sandbox.sandbox_id.as_str(), flow, set);
        ws
    }

    async fn allocate(&self, ctx: &StageContext, sandbox: &Sandbox) -> Result<Outcome, Halt> {
        let provider = self.shared.providers.get(&sandbox.provider)?;
        let allocation = match provider.allocate(&name_of(&sandbox.sandbox_id)?).await {
            // It is found out in the background, and that may take longer than a stage may fail.
            Err(e) if e.reason == "ISOLATION_UNDECIDED" => {
                let wait = Outcome::wait(UNDECIDED_KEY, format!("{}: {}", e.reason, e.message));
                return Ok(wait.until(ctx.env().clock.now().plus(LOOK_AGAIN)));
            }
            allocated => allocated?,
        };
        let network = self.shared.providers.network_text(&allocation.network);
        let set =
            vec![("isolation", isolation_text(&allocation.isolation).into()), ("network", network.into())];
        Ok(Outcome::done().recording(self.record(ctx, sandbox, set)))
    }

    async fn prepare(&self, ctx: &StageContext, sandbox: &Sandbox) -> Result<Outcome, Halt> {
        let provider = self.shared.providers.get(&sandbox.provider)?;
        let from = clone::source(&self.shared, ctx, sandbox).await?;
        ctx.progress(format!("cloning {} at {}", from.base_branch, from.base_commit)).await;
        let base_branch = from.base_branch.clone();
        let shared = Arc::clone(&self.shared);
        let branch = sandbox.branch.clone();
        let make = move |destination: std::path::PathBuf| -> CloneFuture {
            let (shared, from, branch) = (Arc::clone(&shared), from.clone(), branch.clone());
            Box::pin(async move {
                clone::clone_to(&shared, &from, &branch, destination).await?;
                Ok(ClonedRepo { head: from.base_commit, branch })
            })
        };
        let prepared = provider.prepare_repo(&name_of(&sandbox.sandbox_id)?, &make).await?;
        // What an earlier attempt cloned counts, not what the branch points to now.
        let set = vec![("base_branch", base_branch.into()), ("base_commit", prepared.cloned.head.into())];
        Ok(Outcome::done().recording(self.record(ctx, sandbox, set)))
    }

    async fn install(&self, ctx: &StageContext, sandbox: &Sandbox) -> Result<Outcome, Halt> {
        // Said here already, before anything is installed for nothing.
        let (organization, profile) = (&sandbox.organization_id, &sandbox.profile_id);
        let chosen = (profile.as_str(), &Start::default());
        agent::start(&self.shared, organization, &sandbox.agent, chosen, "").await?;
        agent::install(&self.shared, ctx, sandbox, &sandbox.agent).await?;
        Ok(Outcome::done())
    }

    async fn start(&self, ctx: &StageContext, sandbox: &Sandbox) -> Result<Outcome, Halt> {
        let provider = self.shared.providers.get(&sandbox.provider)?;
        let number = ctx.state::<Instance>().map_or(sandbox.runtime_instance, |i| i.instance).max(1);
        let spec = StartSpec {
            name: name_of(&sandbox.sandbox_id)?,
            runtime_instance: format!("run{number}"),
            env: std::collections::BTreeMap::new(),
        };
        let facts = provider.start_agent(&spec).await?;
        // One that already ran is adopted under its own number.
        let number = instance_number(&facts.runtime_instance);
        let set = vec![("facts", sandboxes::facts_value(&facts)?), ("runtime_instance", number.into())];
        Ok(Outcome::done()
            .recording(self.record(ctx, sandbox, set))
            .with_state(&Instance { instance: number }))
    }

    async fn probe(&self, ctx: &StageContext, sandbox: &Sandbox) -> Result<Outcome, Halt> {
        let Some(facts) = &sandbox.facts else { return Ok(Outcome::goto("agent_starting")) };
        match self.shared.providers.get(&sandbox.provider)?.probe(facts).await? {
            Health::Alive => {
                let mut ws = WriteSet::new();
                ws.scope(Scope::organization(&sandbox.organization_id));
                signal(&mut ws, ctx.env(), &ready_key(&sandbox.sandbox_id));
                Ok(Outcome::done().recording(ws))
            }
            Health::Unknown { reason } => Ok(Outcome::retry(
                "RUNTIME_SILENT",
                format!("provider: the runtime does not answer: {reason}"),
            )),
            Health::Dead { cause } => {
                tracing::warn!(sandbox = %sandbox.sandbox_id, %cause, "the runtime died before it was ready");
                let next = Instance { instance: sandbox.runtime_instance + 1 };
                Ok(Outcome::goto("agent_starting").with_state(&next))
            }
        }
    }
}
