//! ReleaseAgentEvents: the events of a closed session are no longer needed here.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::provisioner::v1::{ReleaseAgentEventsRequest, ReleaseAgentEventsResponse};
use foundry_store::WriteSet;

use super::{Command, session_for};
use crate::domain::SessionState;
use crate::shared::Shared;
use crate::store::sessions;

/// Marks the events of a session for deletion; no effect if they are deleted already.
///
/// # Errors
/// `NOT_FOUND`; `EVENTS_IN_USE` when the session is not closed, or has an event that the caller has not stored.
pub async fn release_agent_events(
    shared: &Shared,
    caller: &Caller,
    request: ReleaseAgentEventsRequest,
) -> Result<ReleaseAgentEventsResponse, Error> {
    let organization = session_for(shared, caller, &request.session_id).await?.organization_id;
    let body = ReleaseAgentEventsRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &organization, "ReleaseAgentEvents", &request.request_id, &body)?;
    let answer = command
        .run(|| async {
            let session = session_for(shared, caller, &request.session_id).await?;
            if session.state != SessionState::Closed || request.stored_offset < session.last_offset {
                let text = "the session is not closed, or has events that are not stored elsewhere";
                return Err(Error::precondition("EVENTS_IN_USE", session.session_id.as_str(), text)
                    .next_action("store all events of the closed session first"));
            }
            let mut ws = WriteSet::new();
            sessions::release(&mut ws, &session);
            Ok((ws, ReleaseAgentEventsResponse::default()))
        })
        .await?;
    shared.reclaim_requested.notify_one();
    Ok(answer)
}

#[cfg(test)]
mod tests;
