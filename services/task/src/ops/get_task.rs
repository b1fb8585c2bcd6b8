//! A task with its sessions.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{GetTaskRequest, GetTaskResponse};

use crate::context::Context;

/// # Errors
/// `NOT_FOUND`.
pub async fn get_task(cx: &Context, caller: &Caller, request: GetTaskRequest) -> Result<GetTaskResponse> {
    let of = cx.task(caller, &request.task_id, Role::Viewer).await?;
    let sessions = of.sessions.into_iter().map(|s| s.view).collect();
    Ok(GetTaskResponse { task: Some(of.task.view), sessions })
}
