//! Watches the summary of an organization.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::WatchOrganizationRequest;
use foundry_watch_hub::Granted;

use crate::context::Context;
use crate::view;

/// Authorizes the watch.
///
/// # Errors
/// `NOT_FOUND` for a foreign organization.
pub async fn grant(cx: &Context, caller: &Caller, request: &mut WatchOrganizationRequest) -> Result<Granted> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    cx.followed.ensure(&organization);
    Ok(Granted::of_member(view::organization::of_organization(&organization), &organization))
}
