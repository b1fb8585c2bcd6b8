//! Renames a task.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{UpdateTaskRequest, UpdateTaskResponse};

use super::command::Command;
use crate::context::Context;
use crate::domain::naming;

/// Renames a task in whatever state it is.
///
/// # Errors
/// `INVALID_ARGUMENT` for a bad title, `NOT_FOUND`.
pub async fn update_task(
    cx: &Context,
    caller: &Caller,
    request: UpdateTaskRequest,
) -> Result<UpdateTaskResponse> {
    let found = cx.task(caller, &request.task_id, Role::Member).await?;
    let title = naming::check_name("title", &request.title, naming::MAX_TITLE)?;
    let command =
        Command::new(caller, found, "UpdateTask", &request.request_id, "task.rename", &request.task_id);
    let (answer, rev) = command
        .run(
            cx,
            &request,
            |decision| {
                decision.aggregate.task.view.title.clone_from(&title);
                Ok(())
            },
            |aggregate| UpdateTaskResponse { task: Some(aggregate.task.view.clone()), rev: 0 },
        )
        .await?;
    Ok(UpdateTaskResponse { rev, ..answer })
}
