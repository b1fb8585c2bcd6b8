//! The watches.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{WatchAgentSessionRequest, WatchSandboxRequest, WatchSandboxesRequest};
use foundry_proto::watch::v1::WatchOptions;
use foundry_watch::{FrameStream, Granted};

use super::{sandbox_for, session_for};
use crate::shared::Shared;
use crate::view;

/// Watches the sandboxes and agent sessions of an organization.
pub fn watch_sandboxes(
    shared: &Shared,
    caller: &Caller,
    request: WatchSandboxesRequest,
) -> Result<FrameStream, Error> {
    start(shared, grant_sandboxes(caller, &request)?, request.options, caller)
}

/// What the caller may see of an organization.
pub fn grant_sandboxes(caller: &Caller, request: &WatchSandboxesRequest) -> Result<Granted, Error> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    Ok(Granted::of_member(view::sandboxes(&organization), &organization))
}

/// Watches one sandbox and its agent sessions.
pub async fn watch_sandbox(
    shared: &Shared,
    caller: &Caller,
    request: WatchSandboxRequest,
) -> Result<FrameStream, Error> {
    start(shared, grant_sandbox(shared, caller, &request).await?, request.options, caller)
}

/// What the caller may see of a sandbox.
pub async fn grant_sandbox(
    shared: &Shared,
    caller: &Caller,
    request: &WatchSandboxRequest,
) -> Result<Granted, Error> {
    let sandbox = sandbox_for(shared, caller, &request.sandbox_id, Role::Viewer).await?;
    Ok(Granted::of_member(view::sandbox(&sandbox), &sandbox.organization_id))
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
    let view = view::agent_session(&session, request.after_offset);
    start(shared, Granted::of_member(view, &session.organization_id), request.options, caller)
}

fn start(
    shared: &Shared,
    granted: Granted,
    options: Option<WatchOptions>,
    caller: &Caller,
) -> Result<FrameStream, Error> {
    let pass = shared.authenticator.stream_pass(caller.clone(), granted.organization);
    shared.hub.watch(granted.view, options, pass)
}
