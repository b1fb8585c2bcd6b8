//! Destroys the sandbox of a task; task, transcript and work stay.

use foundry_authn::Caller;
use foundry_core::{FlowId, Result};
use foundry_flow::{enqueue, request_cancel};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{KillTaskRequest, KillTaskResponse};
use foundry_store::Scope;

use super::steer::{Command, Draft};
use crate::context::Context;
use crate::domain::task::Lifecycle;
use crate::flow::command::{self, Command as Order};
use crate::flow::teardown;

/// Legal in every state; does nothing for a task that is killed already.
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
            |draft| end(draft, Lifecycle::Killing),
            |of| KillTaskResponse { task: Some(of.task.view.clone()), rev: 0 },
        )
        .await?;
    Ok(KillTaskResponse { rev, ..answer })
}

/// Begins the end of a task: its flows are cancelled, its sandbox is to be destroyed.
pub(super) fn end(draft: &mut Draft<'_>, ending: Lifecycle) -> Result<()> {
    let lifecycle = draft.of.task.lifecycle;
    match lifecycle {
        Lifecycle::Killing | Lifecycle::Killed => return Ok(()),
        // The end that runs already reads here how it is to be called.
        Lifecycle::Archiving => draft.of.task.lifecycle = ending,
        Lifecycle::Archived => draft.of.task.lifecycle = Lifecycle::Killed,
        Lifecycle::Active => {
            draft.of.task.lifecycle = ending;
            request_cancel(&mut draft.ws, &draft.of.task.flow.flow_id);
            for session in &draft.of.sessions {
                request_cancel(&mut draft.ws, &session.flow.flow_id);
            }
            let actor = draft.caller.actor();
            enqueue(&mut draft.ws, teardown::new(FlowId::generate(draft.env), &draft.of.task, &actor));
        }
    }
    draft.of.task.lifecycle_time = draft.now;
    destroy(draft)
}

fn destroy(draft: &mut Draft<'_>) -> Result<()> {
    if !draft.of.has_living_sandbox() {
        return Ok(());
    }
    let Some(sandbox) = draft.of.sandbox.as_ref().map(|s| s.entity.sandbox_id.clone()) else { return Ok(()) };
    if draft.of.task.destroy_sent == sandbox {
        return Ok(());
    }
    draft.of.task.destroy_sent.clone_from(&sandbox);
    let task = &draft.of.task;
    let order = Order::DestroySandbox { sandbox_id: sandbox };
    let user = draft.caller.actor();
    command::send(&mut draft.ws, draft.env, &task.organization_id, task.task_id.as_str(), &user, &order)
}
