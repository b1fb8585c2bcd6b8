//! Takes up a failed task, sandbox or session at the stage that failed.

use foundry_authn::Caller;
use foundry_core::{Error, FlowId, Result};
use foundry_flow::{enqueue, retry};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{AgentSessionState, SandboxState};
use foundry_proto::task::v1::{RetryTaskRequest, RetryTaskResponse};
use foundry_store::Scope;

use super::steer::{Command, Draft};
use crate::context::Context;
use crate::domain::task::FlowFacts;
use crate::flow::command::{self, Command as Order};
use crate::flow::task;

/// Schedules the retry of everything of the task that failed.
///
/// # Errors
/// `FAILED_PRECONDITION` `NOTHING_TO_RETRY` when nothing failed, or the task has ended; `NOT_FOUND`.
pub async fn retry_task(
    cx: &Context,
    caller: &Caller,
    request: RetryTaskRequest,
) -> Result<RetryTaskResponse> {
    let found = cx.task(caller, &request.task_id, Role::Member).await?;
    let command = Command {
        caller,
        scope: Scope::organization(&found.task.organization_id),
        found,
        method: "RetryTask",
        request_id: &request.request_id,
        creates: false,
        action: "task.retry",
        subject: &request.task_id,
    };
    let (answer, rev) = command
        .run(cx, &request, decide, |of| RetryTaskResponse { task: Some(of.task.view.clone()), rev: 0 })
        .await?;
    Ok(RetryTaskResponse { rev, ..answer })
}

fn decide(draft: &mut Draft<'_>) -> Result<()> {
    draft.of.task.require_active()?;
    let mut taken_up = retry_sandbox(draft)?;
    taken_up |= retry_sessions(draft)?;
    if taken_up {
        return Ok(());
    }
    Err(Error::precondition(
        "NOTHING_TO_RETRY",
        draft.of.task.task_id.as_str(),
        "nothing in this task has failed",
    ))
}

fn retry_sandbox(draft: &mut Draft<'_>) -> Result<bool> {
    let failed = draft.of.sandbox.as_ref().filter(|s| s.entity.state() == SandboxState::Error);
    let failed = failed.map(|s| (s.entity.sandbox_id.clone(), s.rev));
    let gone = draft.of.sandbox.is_some() && !draft.of.has_living_sandbox();
    if draft.of.task.flow.failed() {
        // The stage that failed finds here which failure a person has seen and wants retried.
        draft.of.task.retry_rev = failed.map_or(0, |(_, rev)| rev);
        if gone {
            provision_anew(draft);
        } else {
            retry(&mut draft.ws, &draft.of.task.flow.flow_id);
        }
        return Ok(true);
    }
    if draft.of.task.flow.status != "done" {
        return Ok(false);
    }
    if let Some((sandbox_id, _)) = failed {
        let task = &draft.of.task;
        let user = draft.caller.actor();
        let order = Order::RetrySandbox { sandbox_id };
        command::send(&mut draft.ws, draft.env, &task.organization_id, task.task_id.as_str(), &user, &order)?;
        return Ok(true);
    }
    if gone {
        provision_anew(draft);
    }
    Ok(gone)
}

/// Its sandbox is gone for good: the provisioning begins again.
fn provision_anew(draft: &mut Draft<'_>) {
    draft.of.task.flow = FlowFacts::fresh(FlowId::generate(draft.env));
    let user = draft.caller.actor();
    enqueue(&mut draft.ws, task::new(&draft.of.task, &user));
}

fn retry_sessions(draft: &mut Draft<'_>) -> Result<bool> {
    let mut taken_up = false;
    let agents = &draft.of.agents;
    let user = draft.caller.actor();
    for session in draft.of.sessions.iter_mut().filter(|s| !s.closed) {
        let failed =
            agents.get(session.session_id.as_str()).filter(|a| a.entity.state() == AgentSessionState::Error);
        if session.flow.failed() {
            session.retry_rev = failed.map_or(0, |a| a.rev);
            retry(&mut draft.ws, &session.flow.flow_id);
            taken_up = true;
        } else if failed.is_some() && session.flow.stage == "ready" {
            let order = Order::RetrySession { session_id: session.session_id.to_string() };
            let organization = &session.organization_id;
            command::send(
                &mut draft.ws,
                draft.env,
                organization,
                session.session_id.as_str(),
                &user,
                &order,
            )?;
            taken_up = true;
        }
    }
    Ok(taken_up)
}
