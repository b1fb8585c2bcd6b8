//! CloseAgentSession: ends a session; its events stay.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::common::v1::{TurnEnd, TurnOutcome};
use foundry_proto::provisioner::v1::{CloseAgentSessionRequest, CloseAgentSessionResponse};
use foundry_store::WriteSet;

use super::closing::close;
use super::{Command, audit, behalf, session_for};
use crate::domain::SessionState;
use crate::flow;
use crate::shared::Shared;

/// Closes an agent session; a running turn is cancelled.
pub async fn close_agent_session(
    shared: &Shared,
    caller: &Caller,
    request: CloseAgentSessionRequest,
) -> Result<CloseAgentSessionResponse, Error> {
    let organization = session_for(shared, caller, &request.session_id).await?.organization_id;
    let user_id = behalf(caller, &request.user_id)?;
    let body = CloseAgentSessionRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &organization, "CloseAgentSession", &request.request_id, &body)?;
    let response = command
        .run(|| async {
            let session = session_for(shared, caller, &request.session_id).await?;
            let mut ws = WriteSet::new();
            if session.state == SessionState::Closed {
                return Ok((
                    ws,
                    CloseAgentSessionResponse { agent_session: Some(session.to_proto()), rev: 0 },
                ));
            }
            let end = TurnEnd {
                outcome: TurnOutcome::Cancelled.into(),
                stop_reason: "cancelled".to_owned(),
                reason: "SESSION_CLOSED".to_owned(),
                message: "the session was closed".to_owned(),
                next_attempt_time: None,
            };
            let session = close(shared, &mut ws, &session, &end).await?;
            flow::close::enqueue_for(&mut ws, shared, &session);
            // Includes what the agent did since its last tool call.
            flow::work::enqueue_for(&mut ws, shared, &session, None)?;
            let id = session.session_id.as_str();
            ws.audit(audit(&organization, caller, &user_id, "agent_session.close", id, &request.request_id));
            Ok((ws, CloseAgentSessionResponse { agent_session: Some(session.to_proto()), rev: 0 }))
        })
        .await?;
    Ok(response)
}
