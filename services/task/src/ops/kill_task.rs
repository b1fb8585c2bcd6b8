//! Destroys the sandbox of a task; task, transcript and work stay.

use foundry_authn::Caller;
use foundry_core::{FlowId, Result};
use foundry_flow::{enqueue, request_cancel};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{KillTaskRequest, KillTaskResponse};
use foundry_store::Scope;

use super::command::{Command, Decision};
use crate::context::Context;
use crate::domain::task::Lifecycle;
use crate::flow::provisioner_call::{self, ProvisionerCall};
use crate::flow::teardown;

/// Allowed in every state. Does nothing for a killed task.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn kill_task(cx: &Context, caller: &Caller, request: KillTaskRequest) -> Result<KillTaskResponse> {
    let found = cx.task(caller, &request.task_id, Role::Member).await?;
    let command = Command {
        caller,
        scope: Scope::organization(&found.task.organization_id),
        found,
        method: "KillTask",
        request_id: &request.request_id,
        creates: false,
        action: "task.kill",
        subject: &request.task_id,
    };
    let (answer, rev) = command
        .run(
            cx,
            &request,
            |decision| end(decision, Lifecycle::Killing),
            |aggregate| KillTaskResponse { task: Some(aggregate.task.view.clone()), rev: 0 },
        )
        .await?;
    Ok(KillTaskResponse { rev, ..answer })
}

/// Begins the end of a task: cancels its flows and requests the destruction of its sandbox.
pub(super) fn end(decision: &mut Decision<'_>, ending: Lifecycle) -> Result<()> {
    let lifecycle = decision.aggregate.task.lifecycle;
    match lifecycle {
        Lifecycle::Killing | Lifecycle::Killed => return Ok(()),
        // The teardown that already runs reads from here how to end.
        Lifecycle::Archiving => decision.aggregate.task.lifecycle = ending,
        Lifecycle::Archived => decision.aggregate.task.lifecycle = Lifecycle::Killed,
        Lifecycle::Active => {
            decision.aggregate.task.lifecycle = ending;
            request_cancel(&mut decision.ws, &decision.aggregate.task.flow.flow_id);
            for session in &decision.aggregate.sessions {
                request_cancel(&mut decision.ws, &session.flow.flow_id);
            }
            let actor = decision.caller.actor();
            enqueue(
                &mut decision.ws,
                teardown::new(FlowId::generate(decision.env), &decision.aggregate.task, &actor),
            );
        }
    }
    decision.aggregate.task.lifecycle_time = decision.now;
    destroy(decision)
}

fn destroy(decision: &mut Decision<'_>) -> Result<()> {
    if !decision.aggregate.has_living_sandbox() {
        return Ok(());
    }
    let Some(sandbox) = decision.aggregate.sandbox.as_ref().map(|s| s.entity.sandbox_id.clone()) else {
        return Ok(());
    };
    if decision.aggregate.task.destroy_sent == sandbox {
        return Ok(());
    }
    decision.aggregate.task.destroy_sent.clone_from(&sandbox);
    let task = &decision.aggregate.task;
    let call = ProvisionerCall::DestroySandbox { sandbox_id: sandbox };
    let user = decision.caller.actor();
    provisioner_call::send(
        &mut decision.ws,
        decision.env,
        &task.organization_id,
        task.task_id.as_str(),
        &user,
        &call,
    )
}
