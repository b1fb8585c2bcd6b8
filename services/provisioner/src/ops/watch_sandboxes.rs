//! Watches the sandboxes and agent sessions of an organization.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::WatchSandboxesRequest;
use foundry_watch_hub::Granted;

use crate::shared::Shared;
use crate::view;

/// The view that the caller may watch.
///
/// # Errors
/// `NOT_FOUND` for a foreign organization.
pub async fn grant(
    _: &Shared,
    caller: &Caller,
    request: &mut WatchSandboxesRequest,
) -> Result<Granted, Error> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    Ok(Granted::of_member(view::sandboxes(&organization), &organization))
}
