//! RetryAgentSession: a failed session continues at the stage that failed.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::provisioner::v1::{RetryAgentSessionRequest, RetryAgentSessionResponse};
use foundry_store::WriteSet;

use super::{Command, audit, behalf, session_for};
use crate::domain::{Session, SessionState};
use crate::shared::Shared;
use crate::store::{cleared, condition_value, sessions};

/// Continues a failed agent session.
pub async fn retry_agent_session(
    shared: &Shared,
    caller: &Caller,
    request: RetryAgentSessionRequest,
) -> Result<RetryAgentSessionResponse, Error> {
    let organization = session_for(shared, caller, &request.session_id).await?.organization_id;
    let user_id = behalf(caller, &request.user_id)?;
    let body = RetryAgentSessionRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &organization, "RetryAgentSession", &request.request_id, &body)?;
    command
        .run(|| async {
            let session = session_for(shared, caller, &request.session_id).await?;
            if session.state != SessionState::Error {
                let text = format!("only a failed session can be retried; it is {}", session.state.as_str());
                return Err(Error::precondition("NOT_FAILED", session.session_id.as_str(), text));
            }
            let mut ws = WriteSet::new();
            let condition = cleared(shared.env.clock.now());
            let state = SessionState::Creating;
            let set = vec![("state", state.as_str().into()), ("condition", condition_value(&condition))];
            sessions::update(&mut ws, &session, set);
            foundry_flow::retry(&mut ws, &session.flow_id.parse()?);
            let id = session.session_id.as_str();
            ws.audit(audit(&organization, caller, &user_id, "agent_session.retry", id, &request.request_id));
            let session = Session { state, condition, ..session };
            Ok((ws, RetryAgentSessionResponse { agent_session: Some(session.to_proto()), rev: 0 }))
        })
        .await
}
