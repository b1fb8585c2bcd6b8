//! Provisions a task.
//!
//! A sandbox or session that failed for good fails the flow; a retry continues at that stage.

use std::time::Duration;

use foundry_core::{Env, Result, TaskId};
use foundry_flow::{Flow, FlowStatus, NewFlow, Outcome, Projection, Retry, Stage, StageContext, stage};
use foundry_proto::common::v1::Condition;
use foundry_proto::provisioner::v1::{EnsureSandboxRequest, RetrySandboxRequest, SandboxState};
use foundry_proto::task::v1::SessionState;
use foundry_server::RequestContext;

use super::{RETRY_FOREVER, call, change, gone, id, project_task, refused};
use crate::consume::apply;
use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::domain::task::{Lifecycle, Task};
use crate::store::aggregate::{self, sandbox_key, session_key};

const LIMIT: Duration = Duration::from_secs(30);
/// Longest wait before a stage checks again, in case a signal was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Done when the sandbox is ready and the first session exists.
pub static PROVISION: Flow<Context> = Flow::new(
    "task_provision",
    &[
        // Branch and title are derived by the handler, so that its response contains them.
        Stage::new("naming", Duration::from_secs(10), Retry::DEFAULT, |_, _| {
            Box::pin(async { Outcome::done() })
        }),
        Stage::new("creating_sandbox", LIMIT, RETRY_FOREVER, |cx, ctx| stage(creating_sandbox(cx, ctx))),
        Stage::new("ensuring_agent", LIMIT, RETRY_FOREVER, |cx, ctx| stage(ensuring_agent(cx, ctx))),
        Stage::new("creating_session", LIMIT, RETRY_FOREVER, |cx, ctx| stage(creating_session(cx, ctx))),
    ],
)
.concurrency(64);

/// The flow of a new task.
pub fn new(task: &Task, user_id: &str) -> NewFlow {
    NewFlow::new(&PROVISION, task.flow.flow_id.clone(), task.task_id.as_str(), task.task_id.as_str())
        .organization(&task.organization_id)
        .on_behalf_of(user_id)
        .traced(RequestContext::current_traceparent())
}

/// The projection of the flow's state to its task's row.
pub fn projection(env: &Env) -> impl Projection + use<> {
    let env = env.clone();
    move |flow: &FlowStatus| project_task(&env, &PROVISION, flow)
}

async fn creating_sandbox(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let task: TaskId = id(&ctx.flow().subject_id)?;
    let Some(aggregate) = aggregate::load(&cx.store, &task).await? else { return Ok(gone()) };
    if aggregate.task.lifecycle != Lifecycle::Active {
        return Ok(Outcome::fail("TASK_ENDED", "the task has been ended"));
    }
    let aggregate = if aggregate.has_living_sandbox() {
        aggregate
    } else {
        let request = EnsureSandboxRequest {
            request_id: ctx.effect_name(),
            organization_id: aggregate.task.organization_id.to_string(),
            task_id: task.to_string(),
            repository_id: aggregate.task.repository_id.to_string(),
            base_branch: aggregate.task.view.base_branch.clone(),
            branch: aggregate.task.view.branch.clone(),
            provider: aggregate.task.view.provider.clone(),
            agent: aggregate.task.asked_agent(),
            profile_id: aggregate.task.view.profile.clone(),
            user_id: aggregate.task.view.created_by.clone(),
        };
        let answer = match call(&cx.env, cx.provisioner.clone().ensure_sandbox(request)).await {
            Ok(answer) => answer,
            Err(e) => return Ok(refused(e)),
        };
        let Some(sandbox) = answer.sandbox else {
            return Ok(Outcome::retry("ANSWER_INCOMPLETE", "the provisioner's response contains no sandbox"));
        };
        let applied =
            change(cx, &task, |aggregate, ws| apply::sandbox(ws, &cx.env, aggregate, &sandbox, answer.rev));
        let Some((aggregate, ())) = applied.await? else { return Ok(gone()) };
        aggregate
    };
    let prepared = [SandboxState::InstallingAgent, SandboxState::StartingAgent, SandboxState::Ready];
    sandbox_reached(cx, ctx, &aggregate, &prepared, "the sandbox is being created").await
}

async fn ensuring_agent(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let task: TaskId = id(&ctx.flow().subject_id)?;
    let Some(aggregate) = aggregate::load(&cx.store, &task).await? else { return Ok(gone()) };
    if !aggregate.has_living_sandbox() {
        return Ok(Outcome::goto("creating_sandbox"));
    }
    sandbox_reached(cx, ctx, &aggregate, &[SandboxState::Ready], "the agent is being installed and started")
        .await
}

/// Done when the sandbox is in one of the states. A failed sandbox is retried once per request of a person.
async fn sandbox_reached(
    cx: &Context,
    ctx: &StageContext,
    aggregate: &Aggregate,
    wanted: &[SandboxState],
    message: &str,
) -> Result<Outcome> {
    let Some(replica) = &aggregate.sandbox else { return Ok(Outcome::goto("creating_sandbox")) };
    let state = replica.entity.state();
    if wanted.contains(&state) {
        return Ok(Outcome::done());
    }
    match state {
        SandboxState::Error if aggregate.task.retry_rev == replica.rev => {
            let request = RetrySandboxRequest {
                request_id: format!("{}/retry/{}", ctx.effect_name(), replica.rev),
                sandbox_id: replica.entity.sandbox_id.clone(),
                user_id: ctx.flow().user_id.clone(),
            };
            match call(&cx.env, cx.provisioner.clone().retry_sandbox(request)).await {
                Ok(answer) => {
                    if let Some(sandbox) = answer.sandbox {
                        change(cx, &aggregate.task.task_id, |aggregate, ws| {
                            apply::sandbox(ws, &cx.env, aggregate, &sandbox, answer.rev)
                        })
                        .await?;
                    }
                }
                Err(e) => return Ok(refused(e)),
            }
        }
        SandboxState::Error => return Ok(failed(replica.entity.condition.as_ref(), "SANDBOX_FAILED")),
        SandboxState::Destroying | SandboxState::Destroyed => {
            return Ok(Outcome::fail("SANDBOX_DESTROYED", "the sandbox was destroyed"));
        }
        _ => {}
    }
    Ok(waiting(cx, sandbox_key(&aggregate.task.task_id), message))
}

async fn creating_session(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let task: TaskId = id(&ctx.flow().subject_id)?;
    let Some(aggregate) = aggregate::load(&cx.store, &task).await? else { return Ok(gone()) };
    let first = aggregate.task.first_session_id.as_str();
    let Some(session) = aggregate.session(first) else { return Ok(gone()) };
    Ok(match session.view.state() {
        SessionState::Error if session.flow.failed() => {
            failed(session.view.condition.as_ref(), "SESSION_FAILED")
        }
        SessionState::Ready
        | SessionState::Running
        | SessionState::Idle
        | SessionState::Interrupted
        | SessionState::Closed => Outcome::done(),
        _ => waiting(cx, session_key(first), "the first session is being created"),
    })
}

fn waiting(cx: &Context, key: String, message: &str) -> Outcome {
    Outcome::wait(key, message).until(cx.env.clock.now().plus(LOOK_AGAIN))
}

fn failed(condition: Option<&Condition>, reason: &str) -> Outcome {
    let (own, message) = condition.map(|c| (c.reason.clone(), c.message.clone())).unwrap_or_default();
    Outcome::fail(if own.is_empty() { reason.to_owned() } else { own }, message)
}
