//! The sandbox flow, and its shorter form after a runtime died.
//!
//! A cancelled flow leaves behind what it made: the destroy flow removes it.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Error, FlowId, SandboxId};
use foundry_flow::{Flow, FlowStatus, NewFlow, Outcome, Stage, StageContext, Status, enqueue, signal, stage};
use foundry_proto::common::v1::Base;
use foundry_sandbox::{CloneFuture, ClonedRepo, Health, StartSpec};
use foundry_store::{Scope, WriteSet};
use serde::{Deserialize, Serialize};

use super::{RETRY_LONG, StageError, agent};
use crate::domain::fold::instance_number;
use crate::domain::offer::Start;
use crate::domain::{SANDBOX_STAGES, Sandbox, SandboxState};
use crate::providers::isolation_text;
use crate::shared::{Shared, name_of};
use crate::store::{Set, condition_value, sandboxes, stages};

mod clone;

const STARTING: Stage<Shared> =
    Stage::new("agent_starting", Duration::from_secs(90), RETRY_LONG, |shared, ctx| {
        stage(start(shared, ctx))
    });
const READY: Stage<Shared> =
    Stage::new("agent_ready", Duration::from_secs(30), RETRY_LONG, |shared, ctx| stage(probe(shared, ctx)));

/// Makes a sandbox.
pub static SANDBOX: Flow<Shared> = Flow::new(
    "sandbox",
    &[
        Stage::new("sandbox_allocated", Duration::from_secs(60), RETRY_LONG, |shared, ctx| {
            stage(allocate(shared, ctx))
        }),
        Stage::new("repo_prepared", Duration::from_secs(900), RETRY_LONG, |shared, ctx| {
            stage(prepare(shared, ctx))
        }),
        Stage::new("agent_installing", Duration::from_secs(360), RETRY_LONG, |shared, ctx| {
            stage(install(shared, ctx))
        }),
        STARTING,
        READY,
    ],
)
// As many as the task service's own flow, so that calls which hang at one provider do not hold up those at others.
.concurrency(64);

/// Starts a new runtime in a sandbox whose runtime died.
pub static RESTART: Flow<Shared> = Flow::new("sandbox_restart", &[STARTING, READY]).concurrency(64);

/// Handed from stage to stage: the number of the runtime to start.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Instance {
    instance: i64,
}

/// What the flow was asked for besides what is in the sandbox's row. Nothing, in flows of older versions.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// Whether a user chose the branch.
    pub branch_chosen: bool,
}

/// Wait key of flows that need to know how sandboxes are isolated. Nothing signals it.
const UNDECIDED_KEY: &str = "isolation";
/// Pause between checks whether that is known.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Wait key of flows that need the sandbox to be ready.
pub fn ready_key(id: &SandboxId) -> String {
    format!("sandbox/{id}")
}

/// Adds the flow of a new sandbox. If it begins at once, the sandbox is changed to show so.
pub fn enqueue_new(
    ws: &mut WriteSet,
    shared: &Shared,
    sandbox: &mut Sandbox,
    flow_id: FlowId,
    asked: Asked,
    traceparent: &str,
) -> Result<(), Error> {
    let id = sandbox.sandbox_id.as_str();
    let flow = NewFlow::new(&SANDBOX, flow_id, id, id).organization(&sandbox.organization_id);
    let flow = flow.on_behalf_of(sandbox.user_id.as_str()).traced(traceparent).input(&asked)?;
    sandbox.stages = foundry_flow::pending_stages(&SANDBOX);
    let Some(begun) = shared.starter.enqueue(ws, flow) else { return Ok(()) };
    sandbox.state = SandboxState::of_stage(&begun.stage);
    sandbox.condition = super::condition(&SANDBOX, &begun);
    let stage = foundry_flow::current_stage(&begun);
    if let Some(pending) = sandbox.stages.iter_mut().find(|s| s.name == stage.name) {
        *pending = stage;
    }
    Ok(())
}

/// Adds the flow that starts a new runtime.
pub fn enqueue_restart(ws: &mut WriteSet, sandbox: &Sandbox, flow_id: FlowId) {
    let id = sandbox.sandbox_id.as_str();
    let flow = NewFlow::new(&RESTART, flow_id, id, id).organization(&sandbox.organization_id);
    enqueue(ws, flow.on_behalf_of(sandbox.user_id.as_str()));
}

/// What a transition of the flow changes in its sandbox's row.
pub fn project(spec: &Flow<Shared>, flow: &FlowStatus) -> WriteSet {
    let mut ws = WriteSet::new();
    let Some(organization) = &flow.organization_id else { return ws };
    stages::record(&mut ws, &flow.subject_id, flow, &SANDBOX_STAGES);
    let state = match flow.status {
        Status::Done => SandboxState::Ready,
        Status::Failed => SandboxState::Error,
        // The operation that cancelled the flow has set the state.
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

/// The sandbox of a flow, as long as no other flow has taken it over.
async fn load(shared: &Shared, ctx: &StageContext) -> Result<Sandbox, StageError> {
    let id: SandboxId = ctx.subject_id().parse()?;
    let sandbox = sandboxes::find(&shared.store, &id).await?;
    match sandbox {
        Some(sandbox) if sandbox.flow_id == ctx.flow_id().as_str() => Ok(sandbox),
        _ => Err(Outcome::fail("SUPERSEDED", "another flow has taken over this sandbox").into()),
    }
}

fn record(ctx: &StageContext, sandbox: &Sandbox, set: Set) -> WriteSet {
    let mut ws = WriteSet::new();
    let flow = ctx.flow_id().as_str();
    sandboxes::update_as(&mut ws, &sandbox.organization_id, sandbox.sandbox_id.as_str(), flow, set);
    ws
}

/// Reserves the sandbox at its provider, under the sandbox's id.
async fn allocate(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let sandbox = &load(shared, ctx).await?;
    let provider = shared.providers.get(&sandbox.provider)?;
    let allocation = match provider.allocate(&name_of(&sandbox.sandbox_id)?).await {
        // The provider finds it out in the background, which may take longer than a stage's retries.
        Err(e) if e.reason == "ISOLATION_UNDECIDED" => {
            let wait = Outcome::wait(UNDECIDED_KEY, e.message.as_str()).because(e.reason);
            return Ok(wait.until(ctx.env().clock.now().plus(LOOK_AGAIN)));
        }
        allocated => allocated?,
    };
    let network = shared.providers.network_text(&allocation.network);
    let set = vec![("isolation", isolation_text(&allocation.isolation).into()), ("network", network.into())];
    Ok(Outcome::done().recording(record(ctx, sandbox, set)))
}

/// Asks the repo service where to clone from, and clones the task's branch.
async fn prepare(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let sandbox = &load(shared, ctx).await?;
    let provider = shared.providers.get(&sandbox.provider)?;
    let from = clone::source(shared, ctx, sandbox).await?;
    ctx.progress(format!("cloning {} at {}", from.base_branch, from.base_commit)).await;
    let (base_branch, base_commit, base) =
        (from.base_branch.clone(), from.base_commit.clone(), from.base.clone());
    let (ours, branch, git) =
        (Arc::clone(shared), sandbox.branch.clone(), clone::git_settings(sandbox, &from));
    let make = move |destination: std::path::PathBuf| -> CloneFuture {
        let (shared, from, branch, git) = (Arc::clone(&ours), from.clone(), branch.clone(), git.clone());
        Box::pin(async move {
            clone::clone_to(&shared, &from, &branch, &git, destination).await?;
            Ok(ClonedRepo { head: from.base_commit, branch, git: Some(git) })
        })
    };
    let prepared = provider.prepare_repo(&name_of(&sandbox.sandbox_id)?, &make).await?;
    // What an earlier attempt cloned counts, not the branch's present head.
    let commit = prepared.cloned.head;
    let base = Base { commit: commit.clone(), ..base.filter(|_| commit == base_commit).unwrap_or_default() };
    let set = vec![
        ("base_branch", base_branch.into()),
        ("base_commit", commit.into()),
        ("base", sandboxes::base_value(&base)),
    ];
    Ok(Outcome::done().recording(record(ctx, sandbox, set)))
}

/// Installs the default agent.
async fn install(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let sandbox = &load(shared, ctx).await?;
    // A wrong set-up fails here, before anything is installed in vain.
    let (organization, profile) = (&sandbox.organization_id, &sandbox.profile_id);
    let chosen = (profile.as_str(), &Start::default());
    agent::start(shared, organization, &sandbox.agent, chosen, "").await?;
    agent::install(shared, ctx, sandbox, &sandbox.agent).await?;
    Ok(Outcome::done())
}

/// Starts the runtime, or adopts a running one.
async fn start(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let sandbox = &load(shared, ctx).await?;
    let provider = shared.providers.get(&sandbox.provider)?;
    let number = ctx.state::<Instance>().map_or(sandbox.runtime_instance, |i| i.instance).max(1);
    let spec = StartSpec {
        name: name_of(&sandbox.sandbox_id)?,
        runtime_instance: format!("run{number}"),
        env: std::collections::BTreeMap::new(),
    };
    let facts = provider.start_agent(&spec).await?;
    // An adopted runtime keeps its own number.
    let number = instance_number(&facts.runtime_instance);
    let set = vec![("facts", sandboxes::facts_value(&facts)?), ("runtime_instance", number.into())];
    Ok(Outcome::done().recording(record(ctx, sandbox, set)).with_state(&Instance { instance: number }))
}

/// Probes the runtime; when it answers, waiting sessions go on.
async fn probe(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let sandbox = &load(shared, ctx).await?;
    let Some(facts) = &sandbox.facts else { return Ok(Outcome::goto("agent_starting")) };
    match shared.providers.get(&sandbox.provider)?.probe(facts).await? {
        Health::Alive => {
            let mut ws = WriteSet::new();
            ws.scope(Scope::organization(&sandbox.organization_id));
            signal(&mut ws, ctx.env(), &ready_key(&sandbox.sandbox_id));
            Ok(Outcome::done().recording(ws))
        }
        Health::Unknown { reason } => {
            let message = format!("the runtime does not respond: {reason}");
            Ok(Outcome::retry("RUNTIME_SILENT", message).of_class("provider"))
        }
        Health::Dead { cause } => {
            tracing::warn!(sandbox = %sandbox.sandbox_id, %cause, "the runtime died before it was ready");
            let next = Instance { instance: sandbox.runtime_instance + 1 };
            Ok(Outcome::goto("agent_starting").with_state(&next))
        }
    }
}
