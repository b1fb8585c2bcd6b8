//! Retries a failed task, sandbox or session at the stage that failed; or starts a scheduled next attempt now.

use foundry_authn::Caller;
use foundry_core::{Error, FlowId, Result};
use foundry_flow::{enqueue, hasten, retry, signal};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{AgentSessionState, SandboxState};
use foundry_proto::task::v1::{RetryTaskRequest, RetryTaskResponse};

use super::command::{Command, Decision};
use crate::context::Context;
use crate::domain::derive::Replica;
use crate::domain::task::FlowFacts;
use crate::flow::provisioner_call::{self, ProvisionerCall};
use crate::flow::task;
use crate::store::aggregate::session_key;

/// Schedules the retry of everything in the task that has failed, or that waits for another attempt.
///
/// # Errors
/// `FAILED_PRECONDITION` `NOTHING_TO_RETRY` when nothing failed or waits for another attempt, or the task has ended,
/// `REPOSITORY_REMOVED` when there is nothing that a new sandbox could clone; `NOT_FOUND`.
pub async fn retry_task(
    cx: &Context,
    caller: &Caller,
    request: RetryTaskRequest,
) -> Result<RetryTaskResponse> {
    let found = cx.task(caller, &request.task_id, Role::Member).await?;
    let command =
        Command::new(caller, found, "RetryTask", &request.request_id, "task.retry", &request.task_id);
    let (answer, rev) = command
        .run(cx, &request, decide, |aggregate| RetryTaskResponse {
            task: Some(aggregate.task.view.clone()),
            rev: 0,
        })
        .await?;
    Ok(RetryTaskResponse { rev, ..answer })
}

fn decide(decision: &mut Decision<'_>) -> Result<()> {
    decision.aggregate.task.require_active()?;
    let mut taken_up = retry_sandbox(decision)?;
    taken_up |= retry_sessions(decision)?;
    if taken_up {
        return Ok(());
    }
    Err(Error::precondition(
        "NOTHING_TO_RETRY",
        decision.aggregate.task.task_id.as_str(),
        "nothing in this task has failed or is waiting for another attempt",
    ))
}

fn retry_sandbox(decision: &mut Decision<'_>) -> Result<bool> {
    let failed = decision.aggregate.sandbox.as_ref().filter(|s| s.entity.state() == SandboxState::Error);
    let failed = failed.map(|s| (s.entity.sandbox_id.clone(), s.rev));
    let gone = decision.aggregate.sandbox.is_some() && !decision.aggregate.has_living_sandbox();
    let cloned = decision.aggregate.sandbox.as_ref().is_some_and(|s| !s.entity.base_commit.is_empty());
    if gone || !cloned {
        decision.aggregate.require_repository()?;
    }
    if decision.aggregate.task.flow.failed() {
        // The failed stage retries only the failure that the person has seen.
        decision.aggregate.task.retry_rev = failed.map_or(0, |(_, rev)| rev);
        if decision.aggregate.task.flow.seeks_branch() {
            // Another flow, whose job looks for the branch again.
            provision_again(decision, FlowFacts::pending_branch)?;
        } else if gone {
            provision_again(decision, FlowFacts::fresh)?;
        } else {
            retry(&mut decision.ws, &decision.aggregate.task.flow.flow_id);
            decision.aggregate.task.flow.retried(decision.now);
        }
        return Ok(true);
    }
    if decision.aggregate.task.flow.between_attempts() {
        hasten(&mut decision.ws, &decision.aggregate.task.flow.flow_id);
        return Ok(true);
    }
    let between = decision.aggregate.sandbox_between_attempts().map(|s| s.sandbox_id.clone());
    if decision.aggregate.task.flow.status != "done" && between.is_none() {
        return Ok(false);
    }
    if let Some(sandbox_id) = between.or(failed.map(|(id, _)| id)) {
        let task_id = decision.aggregate.task.task_id.to_string();
        decision.send(&task_id, &ProvisionerCall::RetrySandbox { sandbox_id })?;
        return Ok(true);
    }
    if gone {
        provision_again(decision, FlowFacts::fresh)?;
    }
    Ok(gone)
}

/// Starts a new provisioning flow, as the sandbox is gone for good, or the branch was not found.
fn provision_again(decision: &mut Decision<'_>, begins: fn(FlowId) -> FlowFacts) -> Result<()> {
    decision.aggregate.task.flow = begins(FlowId::generate(decision.env));
    let user = decision.caller.actor();
    // The task has its branch, which its user may have pushed since.
    let asked = task::Asked { branch_chosen: false };
    enqueue(&mut decision.ws, task::new(&decision.aggregate.task, asked, &user)?);
    Ok(())
}

fn retry_sessions(decision: &mut Decision<'_>) -> Result<bool> {
    let mut taken_up = false;
    let between: Vec<String> = decision
        .aggregate
        .agents
        .keys()
        .filter(|id| decision.aggregate.agent_between_attempts(id))
        .cloned()
        .collect();
    let agents = &decision.aggregate.agents;
    let user = decision.caller.actor();
    for session in decision.aggregate.sessions.iter_mut().filter(|s| !s.closed) {
        let damaged = agents.get(session.session_id.as_str()).is_some_and(Replica::is_damaged);
        if damaged && session.flow.stage == "ready" && !session.flow.failed() {
            // Only the copy here: its flow asks for the agent's side again.
            signal(&mut decision.ws, decision.env, &session_key(session.session_id.as_str()));
            taken_up = true;
            continue;
        }
        let failed =
            agents.get(session.session_id.as_str()).filter(|a| a.entity.state() == AgentSessionState::Error);
        if session.flow.between_attempts() {
            hasten(&mut decision.ws, &session.flow.flow_id);
            taken_up = true;
        } else if session.flow.failed() {
            session.retry_rev = failed.map_or(0, |a| a.rev);
            retry(&mut decision.ws, &session.flow.flow_id);
            // In the same commit: the task's flow, retried too, must not find the session failed still.
            session.flow.retried(decision.now);
            taken_up = true;
        } else if (failed.is_some() && session.flow.stage == "ready")
            || between.iter().any(|id| id == session.session_id.as_str())
        {
            let call = ProvisionerCall::RetrySession { session_id: session.session_id.to_string() };
            let organization = &session.organization_id;
            provisioner_call::send(
                &mut decision.ws,
                decision.env,
                organization,
                session.session_id.as_str(),
                &user,
                &call,
            )?;
            taken_up = true;
        }
    }
    Ok(taken_up)
}
