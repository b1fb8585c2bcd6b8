//! Watches a task and its sessions.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::WatchTaskRequest;
use foundry_watch_hub::Granted;

use crate::context::Context;
use crate::view;

/// Authorizes the watch.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn grant(cx: &Context, caller: &Caller, request: &mut WatchTaskRequest) -> Result<Granted> {
    let task = cx.task(caller, &request.task_id, Role::Viewer).await?.task;
    let view = view::task::of_task(&task.organization_id, &task.task_id);
    Ok(Granted::of_member(view, &task.organization_id))
}
