//! Watches the repositories and the works of an organization.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::WatchRepositoriesRequest;
use foundry_watch::FrameStream;

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
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    cx.watch(repositories::of_organization(&organization), request.options, caller, &organization)
}
