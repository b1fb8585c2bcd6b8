//! Watches the repositories and the works of an organization.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::WatchRepositoriesRequest;
use foundry_watch_hub::Granted;

use crate::context::Context;
use crate::view::repositories;

/// Authorizes the watch.
///
/// # Errors
/// `NOT_FOUND` for an organization that is not the caller's.
pub async fn grant(_: &Context, caller: &Caller, request: &mut WatchRepositoriesRequest) -> Result<Granted> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    Ok(Granted::of_member(repositories::of_organization(&organization), &organization))
}
