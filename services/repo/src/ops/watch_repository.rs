//! Watches one repository.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::WatchRepositoryRequest;
use foundry_watch::FrameStream;

use crate::context::Context;
use crate::view::repositories;

/// Starts the watch.
///
/// # Errors
/// `NOT_FOUND`; those of the hub.
pub async fn watch_repository(
    cx: &Context,
    caller: &Caller,
    request: WatchRepositoryRequest,
) -> Result<FrameStream> {
    let found = cx.repository(caller, &request.repository_id, Role::Viewer).await?;
    let view = repositories::of_repository(&found.organization_id, &found.repository_id);
    cx.watch(view, request.options, caller, &found.organization_id)
}
