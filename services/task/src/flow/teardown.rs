//! The end of a task, killed or archived.
//!
//! | stage | does | undo | timeout | retry |
//! |---|---|---|---|---|
//! | destroying | waits until the sandbox is destroyed, at most a minute: the destruction is a command of its own, which goes on | – | 30 s | 8 |
//! | ended | the task is killed or archived | – | 30 s | 8 |

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{FlowId, Result, TaskId};
use foundry_flow::{Binding, Flow, NewFlow, Outcome, Retry, StageContext, StageSpec};
use foundry_proto::provisioner::v1::SandboxState;
use foundry_server::RequestContext;

use super::{change, gone, id, stage};
use crate::context::Context;
use crate::domain::task::Task;
use crate::store::aggregate::{self, sandbox_key};

const LIMIT: Duration = Duration::from_secs(30);
/// How long an end waits for the sandbox's.
const PATIENCE: Duration = Duration::from_secs(60);

/// The flow.
pub static TEARDOWN: Flow = Flow::new(
    "task_teardown",
    &[StageSpec::new("destroying", LIMIT, Retry::DEFAULT), StageSpec::new("ended", LIMIT, Retry::DEFAULT)],
)
.concurrency(32);

/// The end of a task.
pub fn new(flow_id: FlowId, task: &Task, user_id: &str) -> NewFlow {
    NewFlow::new(&TEARDOWN, flow_id, task.task_id.as_str(), task.task_id.as_str())
        .organization(&task.organization_id)
        .on_behalf_of(user_id)
        .traced(RequestContext::current_traceparent())
}

/// The flow with its code.
pub fn binding(cx: &Arc<Context>) -> Binding {
    Binding::new(&TEARDOWN)
        .stage("destroying", Destroying(Arc::clone(cx)))
        .stage("ended", Ended(Arc::clone(cx)))
}

stage!(Destroying, destroying);
stage!(Ended, ended);

async fn destroying(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let task: TaskId = id(&ctx.flow().subject_id)?;
    let Some(of) = aggregate::load(&cx.store, &task).await? else { return Ok(gone()) };
    let until = ctx.flow().started_time.plus(PATIENCE);
    let destroyed = matches!(of.sandbox_state(), None | Some(SandboxState::Destroyed));
    if destroyed || cx.env.clock.now() >= until {
        return Ok(Outcome::done());
    }
    Ok(Outcome::Wait {
        key: sandbox_key(&task),
        deadline: Some(until),
        message: "the sandbox is being destroyed".to_owned(),
        write: foundry_store::WriteSet::new(),
        state: None,
    })
}

async fn ended(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let task: TaskId = id(&ctx.flow().subject_id)?;
    let now = cx.env.clock.now();
    let ended = change(cx, &task, |of, _| {
        if !of.task.lifecycle.has_ended() {
            of.task.lifecycle = of.task.lifecycle.ended();
            of.task.lifecycle_time = now;
        }
        Ok(())
    });
    Ok(if ended.await?.is_some() { Outcome::done() } else { gone() })
}
