//! The destroy flow: legal in every state, ends in bounded time, keeps the ledger's row.
//!
//! | stage             | does                                                        | limit |
//! |-------------------|-------------------------------------------------------------|-------|
//! | work_saved        | a last, bounded attempt to hand over the work                | 40 s  |
//! | sandbox_destroyed | waits for cancelled flows to let go, destroys at the provider | 60 s  |

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{FlowId, SandboxId};
use foundry_flow::{
    Binding, Flow, FlowStatus, NewFlow, Outcome, Stage, StageContext, StageSpec, Status, enqueue,
    list_by_subject,
};
use foundry_sandbox::Health;
use foundry_store::{Value, WriteSet};
use serde::{Deserialize, Serialize};

use super::work::hand_over;
use super::{Halt, PATIENT, outcome};
use crate::domain::{Sandbox, SandboxState};
use crate::shared::{Shared, name_of};
use crate::store::{condition_value, sandboxes, sessions};

/// Destroys a sandbox.
pub static DESTROY: Flow = Flow::new(
    "sandbox_destroy",
    &[
        StageSpec::new("work_saved", Duration::from_secs(40), PATIENT),
        StageSpec::new("sandbox_destroyed", Duration::from_secs(60), PATIENT),
    ],
);

/// How long the work may take to be saved.
const SAVE: Duration = Duration::from_secs(30);
/// How long cancelled flows are waited for.
const LET_GO: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// Whether there is something to save.
#[derive(Serialize, Deserialize)]
struct Input {
    save: bool,
}

/// Adds the flow.
///
/// # Errors
/// Never: the input can be written as JSON.
pub fn enqueue_for(
    ws: &mut WriteSet,
    sandbox: &Sandbox,
    flow_id: FlowId,
    traceparent: &str,
) -> Result<(), foundry_core::Error> {
    let id = sandbox.sandbox_id.as_str();
    let flow = NewFlow::new(&DESTROY, flow_id, id, id)
        .organization(&sandbox.organization_id)
        .traced(traceparent)
        .input(&Input { save: sandbox.state == SandboxState::Ready })?;
    enqueue(ws, flow);
    Ok(())
}

/// The flow with its code.
pub fn binding(shared: &Arc<Shared>) -> Binding {
    Binding::new(&DESTROY)
        .stage("work_saved", Save(Arc::clone(shared)))
        .stage("sandbox_destroyed", Destroy(Arc::clone(shared)))
        .projection(project)
}

fn project(flow: &FlowStatus) -> WriteSet {
    let mut ws = WriteSet::new();
    let Some(organization) = &flow.organization_id else { return ws };
    let mut set = vec![("condition", condition_value(&super::condition(&DESTROY, flow)))];
    match flow.status {
        Status::Done => set.extend([
            ("state", SandboxState::Destroyed.as_str().into()),
            ("destroy_time", flow.status_time.into()),
            ("living", 0.into()),
            ("facts", Value::Null),
        ]),
        Status::Failed => set.push(("state", SandboxState::Error.as_str().into())),
        _ => set.push(("state", SandboxState::Destroying.as_str().into())),
    }
    sandboxes::update_as(&mut ws, organization, &flow.subject_id, flow.flow_id.as_str(), set);
    ws
}

async fn load(shared: &Shared, ctx: &StageContext) -> Result<Sandbox, Halt> {
    let id: SandboxId = ctx.subject_id().parse()?;
    let sandbox = sandboxes::find(&shared.store, &id).await?;
    sandbox.ok_or_else(|| Outcome::fail("SUPERSEDED", "the ledger does not know this sandbox").into())
}

struct Save(Arc<Shared>);

#[async_trait]
impl Stage for Save {
    async fn run(&self, ctx: &StageContext) -> Outcome {
        // Only one attempt, and no failure: a sandbox that cannot save its work is destroyed all the same.
        if ctx.attempt() > 1 || !ctx.input::<Input>().is_ok_and(|i| i.save) {
            return Outcome::done();
        }
        tokio::select! {
            saved = self.save(ctx) => {
                if let Err(halt) = saved {
                    tracing::warn!(sandbox = ctx.subject_id(), outcome = ?outcome(Err(halt)), "work not saved");
                }
            }
            () = ctx.env().clock.sleep(SAVE) => {
                tracing::warn!(sandbox = ctx.subject_id(), "work not saved within {} s", SAVE.as_secs());
            }
        }
        Outcome::done()
    }
}

impl Save {
    async fn save(&self, ctx: &StageContext) -> Result<(), Halt> {
        let sandbox = load(&self.0, ctx).await?;
        let Some(facts) = &sandbox.facts else { return Ok(()) };
        if self.0.providers.get(&sandbox.provider)?.probe(facts).await? != Health::Alive {
            return Ok(());
        }
        ctx.progress("saving the work").await;
        hand_over(&self.0, &sandbox).await
    }
}

struct Destroy(Arc<Shared>);

#[async_trait]
impl Stage for Destroy {
    async fn run(&self, ctx: &StageContext) -> Outcome {
        outcome(self.destroy(ctx).await)
    }
}

impl Destroy {
    async fn destroy(&self, ctx: &StageContext) -> Result<Outcome, Halt> {
        let sandbox = load(&self.0, ctx).await?;
        for session in sessions::of_sandbox(&self.0.store, &sandbox.sandbox_id).await? {
            self.0.pumps.stop(&session.session_id);
        }
        self.wait_for_others(ctx).await?;
        let provider = self.0.providers.get(&sandbox.provider)?;
        provider.destroy(&name_of(&sandbox.sandbox_id)?).await?;
        self.0.clients.forget(&sandbox.sandbox_id);
        Ok(Outcome::done())
    }

    /// The cancelled flows of this sandbox may still be at work in it for a moment.
    async fn wait_for_others(&self, ctx: &StageContext) -> Result<(), Halt> {
        let until = ctx.env().clock.now().plus(LET_GO);
        while ctx.env().clock.now() < until {
            let flows = list_by_subject(&self.0.store, ctx.subject_id()).await?;
            let busy = flows.iter().any(|f| f.flow_id != *ctx.flow_id() && f.status == Status::Running);
            if !busy {
                return Ok(());
            }
            ctx.env().clock.sleep(LOOK).await;
        }
        Ok(())
    }
}
