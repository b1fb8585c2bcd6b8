//! CloseAgentSession: ends a session; its events stay.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::common::v1::{TurnEnd, TurnOutcome};
use foundry_proto::provisioner::v1::{CloseAgentSessionRequest, CloseAgentSessionResponse};
use foundry_store::WriteSet;

use super::{Command, audit, behalf, session_for};
use crate::domain::{Session, SessionState, TurnState};
use crate::flow;
use crate::runtime::cut;
use crate::shared::Shared;
use crate::store::{cleared, condition_value, sessions, turns};

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

/// Writes the end of a session: its turn ends, its flows are cancelled.
pub(crate) async fn close(
    shared: &Shared,
    ws: &mut WriteSet,
    session: &Session,
    end: &TurnEnd,
) -> Result<Session, Error> {
    let now = shared.env.clock.now();
    let turn = turns::find_named(&shared.store, &session.session_id, &session.message_id).await?;
    let turn = turn.filter(|t| t.state != TurnState::Ended);
    let mut set = cut(ws, session, turn.as_ref().map(|t| (t, end)), Vec::new(), now);
    let condition = cleared(now);
    set.extend([
        ("state", SessionState::Closed.as_str().into()),
        ("condition", condition_value(&condition)),
        ("flow_id", "".into()),
    ]);
    sessions::update(ws, session, set);
    for flow in [Some(&session.flow_id), turn.as_ref().map(|t| &t.flow_id)].into_iter().flatten() {
        if let Ok(flow) = flow.parse() {
            foundry_flow::request_cancel(ws, &flow);
        }
    }
    let last_offset = session.last_offset + i64::from(turn.is_some());
    let state = SessionState::Closed;
    Ok(Session {
        state,
        condition,
        last_offset,
        pending_permission: None,
        pending_elicitation: None,
        ..session.clone()
    })
}
