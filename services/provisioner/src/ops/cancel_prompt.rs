//! CancelPrompt: records that the turn is to stop; a job makes the agent stop it.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::provisioner::v1::{CancelPromptRequest, CancelPromptResponse};
use foundry_store::WriteSet;

use super::{Command, audit, behalf, session_for};
use crate::domain::{SessionState, TurnState};
use crate::flow;
use crate::shared::Shared;
use crate::store::{condition_value, sessions, turns};

/// Asks the agent to stop the running turn.
pub async fn cancel_prompt(
    shared: &Shared,
    caller: &Caller,
    request: CancelPromptRequest,
) -> Result<CancelPromptResponse, Error> {
    let organization = session_for(shared, caller, &request.session_id).await?.organization_id;
    let user_id = behalf(caller, &request.user_id)?;
    let body = CancelPromptRequest { request_id: String::new(), ..request.clone() };
    let command = Command::new(shared, caller, &organization, "CancelPrompt", &request.request_id, &body)?;
    command
        .run(|| async {
            let mut session = session_for(shared, caller, &request.session_id).await?;
            let mut ws = WriteSet::new();
            let turn = turns::find_named(&shared.store, &session.session_id, &session.message_id).await?;
            let open = turn.filter(|t| t.state != TurnState::Ended && !t.cancel_requested);
            let (Some(turn), SessionState::Running) = (open, session.state) else {
                return Ok((ws, CancelPromptResponse { agent_session: Some(session.to_proto()), rev: 0 }));
            };
            turns::update(&mut ws, &turn, vec![("cancel_requested", 1.into())]);
            "the turn is being stopped".clone_into(&mut session.condition.message);
            sessions::update(&mut ws, &session, vec![("condition", condition_value(&session.condition))]);
            flow::cancel::enqueue_for(&mut ws, shared, &session, &turn.message_id)?;
            let id = session.session_id.as_str();
            ws.audit(audit(&organization, caller, &user_id, "agent_session.cancel", id, &request.request_id));
            Ok((ws, CancelPromptResponse { agent_session: Some(session.to_proto()), rev: 0 }))
        })
        .await
}
