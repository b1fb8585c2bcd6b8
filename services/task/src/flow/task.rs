//! Provisions a task.
//!
//! A sandbox or session that failed for good fails the flow; a retry continues at that stage.

use std::time::Duration;

use foundry_core::{Result, TaskId};
use foundry_flow::{Flow, NewFlow, Outcome, Retry, Stage, StageContext, stage};
use foundry_proto::common::v1::Condition;
use foundry_proto::provisioner::v1::{EnsureSandboxRequest, RetrySandboxRequest, SandboxState};
use foundry_proto::task::v1::SessionState;
use foundry_server::RequestContext;
use serde::{Deserialize, Serialize};

use super::shown::Decided;
use super::{RETRY_FOREVER, call, gone, id, refused};
use crate::consume::apply;
use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::domain::task::{Lifecycle, PENDING_BRANCH, Task};
use crate::store::aggregate::{self, sandbox_key, session_key};

mod branch;

const LIMIT: Duration = Duration::from_secs(30);
/// Longest wait before a stage checks again, in case a signal was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Done when the sandbox is ready and the first session exists.
pub static PROVISION: Flow<Context> = Flow::new(
    "task_provision",
    &[
        // Older versions began here. Branch and title are derived by the handler: its response contains them.
        Stage::new("naming", Duration::from_secs(10), Retry::DEFAULT, |_, _| {
            Box::pin(async { Outcome::done() })
        }),
        Stage::new(PENDING_BRANCH, LIMIT, RETRY_FOREVER, |cx, ctx| stage(branch::pending(cx, ctx))),
        Stage::new("creating_sandbox", LIMIT, RETRY_FOREVER, |cx, ctx| stage(creating_sandbox(cx, ctx))),
        Stage::new("ensuring_agent", LIMIT, RETRY_FOREVER, |cx, ctx| stage(ensuring_agent(cx, ctx))),
        Stage::new("creating_session", LIMIT, RETRY_FOREVER, |cx, ctx| stage(creating_session(cx, ctx))),
    ],
)
.concurrency(64)
.brief();

/// What the flow was asked for besides what is in the task. Nothing, in flows of older versions.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// Whether the user chose the branch.
    pub branch_chosen: bool,
}

/// The flow of a task that is to be provisioned; it begins by looking for its branch if the task's facts say so.
///
/// # Errors
/// Never: what it was asked for can be written.
pub fn new(task: &Task, asked: Asked, user_id: &str) -> Result<NewFlow> {
    let begins = if task.flow.seeks_branch() { PENDING_BRANCH } else { "creating_sandbox" };
    NewFlow::new(&PROVISION, task.flow.flow_id.clone(), task.task_id.as_str(), task.task_id.as_str())
        .at(begins)
        .organization(&task.organization_id)
        .on_behalf_of(user_id)
        .traced(RequestContext::current_traceparent())
        .input(&asked)
}

async fn creating_sandbox(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let task: TaskId = id(&ctx.flow().subject_id)?;
    let Some(mut aggregate) = load(cx, ctx, &task).await? else { return Ok(gone()) };
    if aggregate.task.lifecycle != Lifecycle::Active {
        return Ok(Outcome::fail("TASK_ENDED", "the task has been ended"));
    }
    if !aggregate.has_living_sandbox() {
        let request = EnsureSandboxRequest {
            request_id: ctx.effect_name(),
            organization_id: aggregate.task.organization_id.to_string(),
            task_id: task.to_string(),
            repository_id: aggregate.task.repository_id.to_string(),
            base_branch: named_base(&aggregate.task.view),
            branch: aggregate.task.view.branch.clone(),
            provider: aggregate.task.view.provider.clone(),
            agent: aggregate.task.asked_agent(),
            profile_id: aggregate.task.view.profile.clone(),
            user_id: aggregate.task.view.created_by.clone(),
            branch_chosen: ctx.input::<Asked>().is_ok_and(|asked| asked.branch_chosen),
            existing_branch: aggregate.task.view.existing_branch,
        };
        let answer = match call(&cx.env, cx.provisioner.clone().ensure_sandbox(request)).await {
            Ok(answer) => answer,
            Err(e) => return Ok(refused(e)),
        };
        let Some(sandbox) = answer.sandbox else {
            return Ok(Outcome::retry("ANSWER_INCOMPLETE", "the provisioner's response contains no sandbox"));
        };
        let rev = answer.rev;
        Decided::to(ctx, &cx.env, &mut aggregate, move |env, aggregate, ws| {
            apply::sandbox(ws, env, aggregate, &sandbox, rev)
        })?;
    }
    let prepared = [SandboxState::InstallingAgent, SandboxState::StartingAgent, SandboxState::Ready];
    sandbox_reached(cx, ctx, &mut aggregate, &prepared, "the sandbox is being created").await
}

/// The base that the request named; the repo service knows the default branch as of the newest synchronization.
fn named_base(view: &foundry_proto::task::v1::Task) -> String {
    if view.follows_default_branch { String::new() } else { view.base_branch.clone() }
}

async fn load(cx: &Context, ctx: &StageContext, task: &TaskId) -> Result<Option<Box<Aggregate>>> {
    let found = aggregate::load(&cx.store, task).await?;
    if let Some(aggregate) = &found {
        Decided::on(ctx, aggregate);
    }
    Ok(found)
}

async fn ensuring_agent(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let task: TaskId = id(&ctx.flow().subject_id)?;
    let Some(mut aggregate) = load(cx, ctx, &task).await? else { return Ok(gone()) };
    if !aggregate.has_living_sandbox() {
        return Ok(Outcome::goto("creating_sandbox"));
    }
    sandbox_reached(
        cx,
        ctx,
        &mut aggregate,
        &[SandboxState::Ready],
        "the agent is being installed and started",
    )
    .await
}

/// Done when the sandbox is in one of the states. A failed sandbox is retried once per request of a person.
async fn sandbox_reached(
    cx: &Context,
    ctx: &StageContext,
    aggregate: &mut Aggregate,
    wanted: &[SandboxState],
    message: &str,
) -> Result<Outcome> {
    let is_to_be_retried = |aggregate: &Aggregate| {
        let failed = aggregate.sandbox.as_ref().filter(|s| s.entity.state() == SandboxState::Error);
        failed.filter(|s| s.rev == aggregate.task.retry_rev).map(|s| (s.entity.sandbox_id.clone(), s.rev))
    };
    if let Some((sandbox_id, rev)) = is_to_be_retried(aggregate) {
        let request = RetrySandboxRequest {
            request_id: format!("{}/retry/{rev}", ctx.effect_name()),
            sandbox_id,
            user_id: ctx.flow().user_id.clone(),
        };
        match call(&cx.env, cx.provisioner.clone().retry_sandbox(request)).await {
            Ok(answer) => {
                if let Some(sandbox) = answer.sandbox {
                    let rev = answer.rev;
                    Decided::to(ctx, &cx.env, aggregate, move |env, aggregate, ws| {
                        apply::sandbox(ws, env, aggregate, &sandbox, rev)
                    })?;
                }
            }
            Err(e) => return Ok(refused(e)),
        }
    }
    // The flow is not woken by what it records itself, so this decides on the answer.
    let Some(replica) = &aggregate.sandbox else { return Ok(Outcome::goto("creating_sandbox")) };
    let state = replica.entity.state();
    Ok(match state {
        _ if wanted.contains(&state) => Outcome::done(),
        SandboxState::Error if is_to_be_retried(aggregate).is_none() => {
            failed(replica.entity.condition.as_ref(), "SANDBOX_FAILED")
        }
        SandboxState::Destroying | SandboxState::Destroyed => {
            Outcome::fail("SANDBOX_DESTROYED", "the sandbox was destroyed")
        }
        _ => waiting(cx, sandbox_key(&aggregate.task.task_id), message),
    })
}

async fn creating_session(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let task: TaskId = id(&ctx.flow().subject_id)?;
    let Some(aggregate) = load(cx, ctx, &task).await? else { return Ok(gone()) };
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
