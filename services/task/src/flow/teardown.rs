//! Ends a task that was killed or archived.

use std::time::Duration;

use foundry_core::{Env, FlowId, Result, TaskId, Timestamp};
use foundry_flow::{Flow, NewFlow, Outcome, Retry, Stage, StageContext, enqueue, request_cancel, stage};
use foundry_proto::provisioner::v1::SandboxState;
use foundry_server::RequestContext;
use foundry_store::WriteSet;

use super::provisioner_call::{self, ProvisionerCall};
use super::{change_damaged_too, gone, id};
use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::domain::task::{Lifecycle, Task};
use crate::store::aggregate::{self, sandbox_key};

const LIMIT: Duration = Duration::from_secs(30);
/// How long the flow waits for the sandbox to be destroyed. Then the task ends anyway.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for the sandbox's destruction, then marks the task as ended.
pub static TEARDOWN: Flow<Context> = Flow::new(
    "task_teardown",
    &[
        Stage::new("destroying", LIMIT, Retry::DEFAULT, |cx, ctx| stage(destroying(cx, ctx))),
        Stage::new("ended", LIMIT, Retry::DEFAULT, |cx, ctx| stage(ended(cx, ctx))),
    ],
)
.concurrency(32);

/// The end of a task.
fn new(flow_id: FlowId, task: &Task, user_id: &str) -> NewFlow {
    NewFlow::new(&TEARDOWN, flow_id, task.task_id.as_str(), task.task_id.as_str())
        .organization(&task.organization_id)
        .on_behalf_of(user_id)
        .traced(RequestContext::current_traceparent())
}

/// Begins the end of a task, `Archiving` or `Killing`: cancels its flows and requests the destruction of its sandbox.
/// Does nothing when the task is killed or about to be.
///
/// # Errors
/// When a command cannot be written.
pub fn begin(
    ws: &mut WriteSet,
    env: &Env,
    aggregate: &mut Aggregate,
    end: Lifecycle,
    now: Timestamp,
    user_id: &str,
) -> Result<()> {
    let before = aggregate.task.lifecycle;
    let Some(lifecycle) = before.towards(end) else { return Ok(()) };
    // A teardown that already runs reads from here how to end.
    aggregate.task.lifecycle = lifecycle;
    aggregate.task.lifecycle_time = now;
    if before == Lifecycle::Active {
        request_cancel(ws, &aggregate.task.flow.flow_id);
        for session in &aggregate.sessions {
            request_cancel(ws, &session.flow.flow_id);
        }
        enqueue(ws, new(FlowId::generate(env), &aggregate.task, user_id));
    }
    destroy(ws, env, aggregate, user_id)
}

/// Requests the destruction of the sandbox, once.
fn destroy(ws: &mut WriteSet, env: &Env, aggregate: &mut Aggregate, user_id: &str) -> Result<()> {
    if !aggregate.has_living_sandbox() {
        return Ok(());
    }
    let Some(sandbox_id) = aggregate.sandbox.as_ref().map(|s| s.entity.sandbox_id.clone()) else {
        return Ok(());
    };
    let task = &mut aggregate.task;
    if task.destroy_sent == sandbox_id {
        return Ok(());
    }
    task.destroy_sent.clone_from(&sandbox_id);
    let call = ProvisionerCall::DestroySandbox { sandbox_id };
    provisioner_call::send(ws, env, &task.organization_id, task.task_id.as_str(), user_id, &call)
}

async fn destroying(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let task: TaskId = id(&ctx.flow().subject_id)?;
    let Some(aggregate) = aggregate::load_damaged_too(&cx.store, &task).await? else { return Ok(gone()) };
    let until = ctx.flow().started_time.plus(PATIENCE);
    let destroyed = matches!(aggregate.sandbox_state(), None | Some(SandboxState::Destroyed));
    if destroyed || cx.env.clock.now() >= until {
        return Ok(Outcome::done());
    }
    Ok(Outcome::wait(sandbox_key(&task), "the sandbox is being destroyed").until(until))
}

async fn ended(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let task: TaskId = id(&ctx.flow().subject_id)?;
    let now = cx.env.clock.now();
    let end = |aggregate: &mut Aggregate, ws: &mut WriteSet| {
        if !aggregate.task.lifecycle.has_ended() {
            aggregate.task.lifecycle = aggregate.task.lifecycle.ended();
            aggregate.task.lifecycle_time = now;
            ws.wake(aggregate::ENDED_TOPIC);
        }
        Ok(())
    };
    let ended = change_damaged_too(cx, &task, end, |_| {});
    Ok(if ended.await?.is_some() { Outcome::done() } else { gone() })
}
