//! Watches the summary of an organization.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::WatchOrganizationRequest;
use foundry_watch::FrameStream;

use crate::context::Context;
use crate::view;

/// # Errors
/// `NOT_FOUND` for a foreign organization; see [`foundry_watch::Hub::watch`].
pub fn watch_organization(
    cx: &Context,
    caller: &Caller,
    request: WatchOrganizationRequest,
) -> Result<FrameStream> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    cx.interest.ensure(&organization);
    cx.watch(view::organization::of_organization(&organization), request.options, caller, &organization)
}
