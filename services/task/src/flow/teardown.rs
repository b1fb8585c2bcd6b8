//! Ends a task that was killed or archived.

use std::time::Duration;

use foundry_core::{FlowId, Result, TaskId};
use foundry_flow::{Flow, NewFlow, Outcome, Retry, Stage, StageContext, stage};
use foundry_proto::provisioner::v1::SandboxState;
use foundry_server::RequestContext;

use super::{change, gone, id};
use crate::context::Context;
use crate::domain::task::Task;
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

/// The flow that ends a task.
pub fn new(flow_id: FlowId, task: &Task, user_id: &str) -> NewFlow {
    NewFlow::new(&TEARDOWN, flow_id, task.task_id.as_str(), task.task_id.as_str())
        .organization(&task.organization_id)
        .on_behalf_of(user_id)
        .traced(RequestContext::current_traceparent())
}

async fn destroying(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let task: TaskId = id(&ctx.flow().subject_id)?;
    let Some(aggregate) = aggregate::load(&cx.store, &task).await? else { return Ok(gone()) };
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
    let ended = change(cx, &task, |aggregate, _| {
        if !aggregate.task.lifecycle.has_ended() {
            aggregate.task.lifecycle = aggregate.task.lifecycle.ended();
            aggregate.task.lifecycle_time = now;
        }
        Ok(())
    });
    Ok(if ended.await?.is_some() { Outcome::done() } else { gone() })
}
