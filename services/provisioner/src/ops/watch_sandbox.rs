//! Watches one sandbox and its agent sessions.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::WatchSandboxRequest;
use foundry_watch_hub::Granted;

use super::sandbox_for;
use crate::shared::Shared;
use crate::view;

/// The view that the caller may watch.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn grant(
    shared: &Shared,
    caller: &Caller,
    request: &mut WatchSandboxRequest,
) -> Result<Granted, Error> {
    let sandbox = sandbox_for(shared, caller, &request.sandbox_id, Role::Viewer).await?;
    Ok(Granted::of_member(view::sandbox(&sandbox), &sandbox.organization_id))
}
