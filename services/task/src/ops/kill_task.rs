//! Destroys the sandbox of a task; task, transcript and work stay.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{KillTaskRequest, KillTaskResponse};

use super::command::Command;
use crate::context::Context;
use crate::domain::task::Lifecycle;

/// Allowed in every state. Does nothing for a killed task.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn kill_task(cx: &Context, caller: &Caller, request: KillTaskRequest) -> Result<KillTaskResponse> {
    let found = cx.task(caller, &request.task_id, Role::Member).await?;
    let command = Command {
        ends: true,
        ..Command::new(caller, found, "KillTask", &request.request_id, "task.kill", &request.task_id)
    };
    let (answer, rev) = command
        .run(
            cx,
            &request,
            |decision| decision.end(Lifecycle::Killing),
            |aggregate| KillTaskResponse { task: Some(aggregate.task.view.clone()), rev: 0 },
        )
        .await?;
    Ok(KillTaskResponse { rev, ..answer })
}
