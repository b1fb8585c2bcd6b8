//! The destroy flow: legal in every state, ends in bounded time, keeps the ledger's row.
//!
//! Work that could not be saved does not keep a sandbox alive; its condition reports the loss for good.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{FlowId, SandboxId};
use foundry_flow::{
    Flow, FlowStatus, NewFlow, Outcome, Stage, StageContext, Status, enqueue, list_by_subject, stage,
};
use foundry_proto::common::v1::Condition;
use foundry_sandbox::Health;
use foundry_store::{Value, WriteSet};
use serde::{Deserialize, Serialize};

use super::work::{hand_over, refused_in_the_end};
use super::{RETRY_LONG, StageError};
use crate::domain::{Sandbox, SandboxState};
use crate::shared::{Shared, name_of};
use crate::store::{condition_value, sandboxes, sessions};

/// Destroys a sandbox.
pub static DESTROY: Flow<Shared> = Flow::new(
    "sandbox_destroy",
    &[
        Stage::new("work_saved", Duration::from_secs(40), RETRY_LONG, |shared, ctx| {
            Box::pin(save(shared, ctx))
        }),
        Stage::new("sandbox_destroyed", Duration::from_secs(60), RETRY_LONG, |shared, ctx| {
            stage(destroy(shared, ctx))
        }),
    ],
)
.concurrency(64);

/// How long one attempt to save the work may take.
const SAVE: Duration = Duration::from_secs(30);
/// How long after the start of the stage a failed attempt is repeated: long enough for the repo service to restart.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most attempts that neither saved the work nor failed because the service died during each of them.
const MAX_ATTEMPTS: u32 = 20;
/// How long to wait for cancelled flows to end.
const LET_GO: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// Whether there may be work to save.
#[derive(Serialize, Deserialize)]
struct Input {
    save: bool,
}

/// Handed from the first stage to the second: why the work was not saved. Absent when it was.
#[derive(Serialize, Deserialize)]
struct Unsaved {
    unsaved: String,
}

/// Adds the flow.
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
        .input(&Input { save: !sandbox.base_commit.is_empty() })?;
    enqueue(ws, flow);
    Ok(())
}

/// What a transition of the flow changes in its sandbox's row.
pub fn project(flow: &FlowStatus) -> WriteSet {
    let mut ws = WriteSet::new();
    let Some(organization) = &flow.organization_id else { return ws };
    let mut set = vec![("condition", condition_value(&condition(flow)))];
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

/// The condition of the flow; it keeps reporting work that was lost.
fn condition(flow: &FlowStatus) -> Condition {
    let mut condition = super::condition(&DESTROY, flow);
    if condition.reason.is_empty()
        && let Ok(Unsaved { unsaved }) = serde_json::from_value(flow.state.clone())
    {
        "WORK_NOT_SAVED".clone_into(&mut condition.reason);
        condition.message = format!("changes since the last saved work are lost: {unsaved}");
    }
    condition
}

async fn load(shared: &Shared, ctx: &StageContext) -> Result<Sandbox, StageError> {
    let id: SandboxId = ctx.subject_id().parse()?;
    let sandbox = sandboxes::find(&shared.store, &id).await?;
    sandbox.ok_or_else(|| Outcome::fail("SUPERSEDED", "this sandbox is not recorded").into())
}

/// Ends the stage without the work: the sandbox is destroyed all the same.
fn give_up(ctx: &StageContext, unsaved: String) -> Outcome {
    tracing::warn!(sandbox = ctx.subject_id(), why = unsaved, "work not saved");
    Outcome::done().with_state(&Unsaved { unsaved })
}

/// Hands over the work; repeats a failed attempt for a minute while that may help.
async fn save(shared: &Arc<Shared>, ctx: &StageContext) -> Outcome {
    if !ctx.input::<Input>().is_ok_and(|i| i.save) {
        return Outcome::done();
    }
    if ctx.attempt() > MAX_ATTEMPTS {
        return give_up(ctx, "the service stopped during every attempt to save it".to_owned());
    }
    let saved = tokio::select! {
        saved = try_save(shared, ctx) => saved.unwrap_or_else(Outcome::from),
        () = ctx.env().clock.sleep(SAVE) => {
            Outcome::retry("WORK_SAVE_TIMEOUT", format!("not saved within {} s", SAVE.as_secs())).of_class("timeout")
        }
    };
    // An attempt that a crash cut off is not counted as a failure: however long the service was away, one more
    // follows.
    let late = ctx.env().clock.now() >= ctx.flow().stage_started_time.plus(PATIENCE);
    let last = late || ctx.flow().failures + 1 >= RETRY_LONG.budget;
    match saved {
        Outcome::Retry { reason, message, .. } if last => give_up(ctx, format!("{reason}: {message}")),
        Outcome::Fail { reason, message, .. } => give_up(ctx, format!("{reason}: {message}")),
        saved => saved,
    }
}

async fn try_save(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let sandbox = load(shared, ctx).await?;
    let alive = match &sandbox.facts {
        Some(facts) => shared.providers.get(&sandbox.provider)?.probe(facts).await? == Health::Alive,
        None => false,
    };
    if alive {
        ctx.progress("saving the work").await;
        let turn = shared.work_locks.of(&sandbox.sandbox_id).await;
        hand_over(shared, &sandbox, turn, None).await?;
        return Ok(match refused_in_the_end(shared, &sandbox).await {
            Some(why) => Outcome::fail("BUNDLE_REFUSED", why),
            None => Outcome::done(),
        });
    }
    // A sandbox that never had a prompt has no work.
    let sessions = sessions::of_sandbox(&shared.store, &sandbox.sandbox_id).await?;
    Ok(match sessions.iter().any(|s| s.turn_count > 0) {
        true => Outcome::fail("RUNTIME_ABSENT", "the sandbox had no running runtime"),
        false => Outcome::done(),
    })
}

/// Waits for cancelled flows to end, then destroys the sandbox at its provider.
async fn destroy(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let sandbox = load(shared, ctx).await?;
    for session in sessions::of_sandbox(&shared.store, &sandbox.sandbox_id).await? {
        shared.pumps.stop(&session.session_id);
    }
    wait_for_others(shared, ctx).await?;
    let provider = shared.providers.get(&sandbox.provider)?;
    provider.destroy(&name_of(&sandbox.sandbox_id)?).await?;
    shared.clients.forget(&sandbox.sandbox_id);
    let mut ws = WriteSet::new();
    super::release::enqueue_for(&mut ws, shared, &sandbox);
    Ok(Outcome::done().recording(ws))
}

/// Cancelled flows of this sandbox may still be working in it for a moment.
async fn wait_for_others(shared: &Arc<Shared>, ctx: &StageContext) -> Result<(), StageError> {
    let until = ctx.env().clock.now().plus(LET_GO);
    while ctx.env().clock.now() < until {
        let flows = list_by_subject(&shared.store, ctx.subject_id()).await?;
        let busy = flows.iter().any(|f| f.flow_id != *ctx.flow_id() && f.status == Status::Running);
        if !busy {
            return Ok(());
        }
        ctx.env().clock.sleep(LOOK).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
