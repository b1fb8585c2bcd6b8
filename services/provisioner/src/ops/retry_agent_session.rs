//! RetryAgentSession: a failed session continues at the stage that failed; one whose creation waits for its next attempt
//! makes it now.

use foundry_authn::Caller;
use foundry_core::{Error, FlowId};
use foundry_proto::provisioner::v1::{RetryAgentSessionRequest, RetryAgentSessionResponse};
use foundry_store::WriteSet;

use super::{Command, audit, behalf, session_for};
use crate::domain::{Session, SessionState};
use crate::shared::Shared;
use crate::store::{cleared, condition_value, sessions};

/// Continues a failed agent session, or hastens the next attempt to create it.
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
            let mut ws = WriteSet::new();
            let flow: FlowId = session.flow_id.parse()?;
            let id = session.session_id.to_string();
            let session = match session.state {
                SessionState::Error => {
                    let (state, condition) = (SessionState::Creating, cleared(shared.env.clock.now()));
                    let set =
                        vec![("state", state.as_str().into()), ("condition", condition_value(&condition))];
                    sessions::update(&mut ws, &session, set);
                    foundry_flow::retry(&mut ws, &flow);
                    Session { state, condition, ..session }
                }
                SessionState::Creating if session.condition.next_attempt_time.is_some() => {
                    foundry_flow::hasten(&mut ws, &flow);
                    session
                }
                other => {
                    let text = format!("only a failed session can be retried; it is {}", other.as_str());
                    return Err(Error::precondition("NOT_FAILED", &id, text));
                }
            };
            ws.audit(audit(&organization, caller, &user_id, "agent_session.retry", &id, &request.request_id));
            Ok((ws, RetryAgentSessionResponse { agent_session: Some(session.to_proto()), rev: 0 }))
        })
        .await
}
