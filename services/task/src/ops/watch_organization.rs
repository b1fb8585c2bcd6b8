//! Watches the summary of an organization.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::WatchOrganizationRequest;
use foundry_watch::{FrameStream, Granted};

use crate::context::Context;
use crate::view;

/// # Errors
/// `NOT_FOUND` for a foreign organization; see [`foundry_watch::Hub::watch`].
pub fn watch_organization(
    cx: &Context,
    caller: &Caller,
    request: WatchOrganizationRequest,
) -> Result<FrameStream> {
    let granted = grant(cx, caller, &request)?;
    cx.watch(granted, request.options, caller)
}

/// What the caller may see.
///
/// # Errors
/// `NOT_FOUND` for a foreign organization.
pub fn grant(cx: &Context, caller: &Caller, request: &WatchOrganizationRequest) -> Result<Granted> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    cx.interest.ensure(&organization);
    Ok(Granted::of_member(view::organization::of_organization(&organization), &organization))
}
