//! Watches an agent session and its events after an offset.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::provisioner::v1::WatchAgentSessionRequest;
use foundry_watch_hub::Granted;

use super::session_for;
use crate::shared::Shared;
use crate::view;

/// The view that the caller may watch.
///
/// # Errors
/// `NOT_FOUND`, `INVALID_ARGUMENT` for a negative offset.
pub async fn grant(
    shared: &Shared,
    caller: &Caller,
    request: &mut WatchAgentSessionRequest,
) -> Result<Granted, Error> {
    if request.after_offset < 0 {
        return Err(Error::invalid_field("after_offset", "must not be negative"));
    }
    let session = session_for(shared, caller, &request.session_id).await?;
    let view = view::agent_session(&session, request.after_offset);
    Ok(Granted::of_member(view, &session.organization_id))
}
