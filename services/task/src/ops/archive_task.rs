//! Archives a task and frees its sandbox.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{ArchiveTaskRequest, ArchiveTaskResponse};
use foundry_store::Scope;

use super::steer::Command;
use crate::context::Context;
use crate::domain::task::Lifecycle;

/// Refused during a turn; does nothing for a task that is archived already.
///
/// # Errors
/// `FAILED_PRECONDITION` `TURN_RUNNING` or `TASK_KILLED`, `NOT_FOUND`.
pub async fn archive_task(
    cx: &Context,
    caller: &Caller,
    request: ArchiveTaskRequest,
) -> Result<ArchiveTaskResponse> {
    let found = cx.task(caller, &request.task_id, Role::Member).await?;
    let command = Command {
        caller,
        scope: Scope::organization(&found.task.organization_id),
        found,
        method: "ArchiveTask",
        request_id: &request.request_id,
        action: "task.archive",
        subject: &request.task_id,
    };
    let (answer, rev) = command
        .run(
            cx,
            &request,
            |draft| {
                if draft.of.task.lifecycle.ended() == Lifecycle::Archived
                    && draft.of.task.lifecycle != Lifecycle::Active
                {
                    return Ok(());
                }
                draft.of.task.require_active()?;
                if draft.of.turn_runs() {
                    return Err(Error::precondition(
                        "TURN_RUNNING",
                        &request.task_id,
                        "a turn runs in the task",
                    )
                    .next_action("stop the turn first, or kill the task"));
                }
                super::kill_task::end(draft, Lifecycle::Archiving)
            },
            |of| ArchiveTaskResponse { task: Some(of.task.view.clone()), rev: 0 },
        )
        .await?;
    Ok(ArchiveTaskResponse { rev, ..answer })
}
