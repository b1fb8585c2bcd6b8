//! Watches the repositories and the works of an organization.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::WatchRepositoriesRequest;
use foundry_watch::{FrameStream, Granted};

use crate::context::Context;
use crate::view::repositories;

/// Starts the watch.
///
/// # Errors
/// `NOT_FOUND` for an organization that is not the caller's; those of the hub.
pub fn watch_repositories(
    cx: &Context,
    caller: &Caller,
    request: WatchRepositoriesRequest,
) -> Result<FrameStream> {
    let granted = grant(caller, &request)?;
    cx.watch(granted, request.options, caller)
}

/// What the caller may see.
///
/// # Errors
/// `NOT_FOUND` for an organization that is not the caller's.
pub fn grant(caller: &Caller, request: &WatchRepositoriesRequest) -> Result<Granted> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    Ok(Granted::of_member(repositories::of_organization(&organization), &organization))
}
