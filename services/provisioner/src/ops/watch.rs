//! The watches.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{WatchAgentSessionRequest, WatchSandboxRequest, WatchSandboxesRequest};
use foundry_watch::FrameStream;

use super::{sandbox_for, session_for};
use crate::shared::Shared;
use crate::view;

/// Watches the sandboxes and agent sessions of an organization.
pub fn watch_sandboxes(
    shared: &Shared,
    caller: &Caller,
    request: WatchSandboxesRequest,
) -> Result<FrameStream, Error> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let pass = shared.authenticator.stream_pass(caller.clone(), Some(organization.clone()));
    shared.hub.watch(view::sandboxes(&organization), request.options, pass)
}

/// Watches one sandbox and its agent sessions.
pub async fn watch_sandbox(
    shared: &Shared,
    caller: &Caller,
    request: WatchSandboxRequest,
) -> Result<FrameStream, Error> {
    let sandbox = sandbox_for(shared, caller, &request.sandbox_id, Role::Viewer).await?;
    let pass = shared.authenticator.stream_pass(caller.clone(), Some(sandbox.organization_id.clone()));
    shared.hub.watch(view::sandbox(&sandbox), request.options, pass)
}

/// Watches an agent session and its events after an offset.
pub async fn watch_agent_session(
    shared: &Shared,
    caller: &Caller,
    request: WatchAgentSessionRequest,
) -> Result<FrameStream, Error> {
    if request.after_offset < 0 {
        return Err(Error::invalid_field("after_offset", "must not be negative"));
    }
    let session = session_for(shared, caller, &request.session_id).await?;
    let pass = shared.authenticator.stream_pass(caller.clone(), Some(session.organization_id.clone()));
    shared.hub.watch(view::agent_session(&session, request.after_offset), request.options, pass)
}
