//! Watches one repository.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::WatchRepositoryRequest;
use foundry_watch_hub::Granted;

use crate::context::Context;
use crate::view::repositories;

/// Authorizes the watch.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn grant(cx: &Context, caller: &Caller, request: &mut WatchRepositoryRequest) -> Result<Granted> {
    let found = cx.repository(caller, &request.repository_id, Role::Viewer).await?;
    let view = repositories::of_repository(&found.organization_id, &found.repository_id);
    Ok(Granted::of_member(view, &found.organization_id))
}
