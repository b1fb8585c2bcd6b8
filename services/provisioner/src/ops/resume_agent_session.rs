//! ResumeAgentSession: tries a model provider before the time at which its quota should be available again.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::provisioner::v1::{ResumeAgentSessionRequest, ResumeAgentSessionResponse};
use foundry_store::WriteSet;

use super::{Command, audit, behalf, session_for};
use crate::models::wait;
use crate::shared::Shared;

/// Ends the wait for the session's model provider; no effect when there is none.
pub async fn resume_agent_session(
    shared: &Shared,
    caller: &Caller,
    request: ResumeAgentSessionRequest,
) -> Result<ResumeAgentSessionResponse, Error> {
    let organization = session_for(shared, caller, &request.session_id).await?.organization_id;
    let user_id = behalf(caller, &request.user_id)?;
    let body = ResumeAgentSessionRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &organization, "ResumeAgentSession", &request.request_id, &body)?;
    let answer = command
        .run(|| async {
            let session = session_for(shared, caller, &request.session_id).await?;
            let mut ws = WriteSet::new();
            if !session.model_provider_id.is_empty() {
                wait::end(&mut ws, shared, &session.model_provider_id);
            }
            let id = session.session_id.as_str();
            ws.audit(audit(&organization, caller, &user_id, "agent_session.resume", id, &request.request_id));
            Ok((ws, ResumeAgentSessionResponse { agent_session: Some(session.to_proto()), rev: 0 }))
        })
        .await?;
    // After the commit: before it, the gateway would only read again that the quota is used up.
    shared.let_go(answer.agent_session.as_ref().map(|s| s.model_provider_id.as_str()).unwrap_or_default());
    Ok(answer)
}
