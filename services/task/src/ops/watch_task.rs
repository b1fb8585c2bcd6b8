//! Watches a task and its sessions.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::WatchTaskRequest;
use foundry_watch::FrameStream;

use crate::context::Context;
use crate::view;

/// # Errors
/// `NOT_FOUND`; see [`foundry_watch::Hub::watch`].
pub async fn watch_task(cx: &Context, caller: &Caller, request: WatchTaskRequest) -> Result<FrameStream> {
    let task = cx.task(caller, &request.task_id, Role::Viewer).await?.task;
    cx.watch(
        view::task::of_task(&task.organization_id, &task.task_id),
        request.options,
        caller,
        &task.organization_id,
    )
}
