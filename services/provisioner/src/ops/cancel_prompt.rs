//! CancelPrompt: records that a turn is to stop; a job makes the agent stop it. A turn that is cancelled before its
//! prompt arrives is stopped on arrival; only the named turn is stopped.

use foundry_authn::Caller;
use foundry_core::{Error, MessageId};
use foundry_proto::provisioner::v1::{CancelPromptRequest, CancelPromptResponse};
use foundry_store::WriteSet;

use super::{Command, audit, behalf, session_for};
use crate::domain::{Session, SessionState, Turn, TurnState};
use crate::flow;
use crate::models::wait;
use crate::shared::Shared;
use crate::store::{condition_value, sessions, turns};

const AUDITED: &str = "agent_session.cancel";

/// Asks the agent to stop the running turn, or the named one.
pub async fn cancel_prompt(
    shared: &Shared,
    caller: &Caller,
    request: CancelPromptRequest,
) -> Result<CancelPromptResponse, Error> {
    let named = match request.message_id.as_str() {
        "" => None,
        id => Some(id.parse::<MessageId>()?),
    };
    let organization = session_for(shared, caller, &request.session_id).await?.organization_id;
    let user_id = behalf(caller, &request.user_id)?;
    let body = CancelPromptRequest { request_id: String::new(), ..request.clone() };
    let command = Command::new(shared, caller, &organization, "CancelPrompt", &request.request_id, &body)?;
    command
        .run(|| async {
            let mut session = session_for(shared, caller, &request.session_id).await?;
            let mut ws = WriteSet::new();
            let turn = match &named {
                Some(named) => turns::find(&shared.store, &session.session_id, named).await?,
                None => turns::find_named(&shared.store, &session.session_id, &session.message_id).await?,
            };
            if let (None, Some(named)) = (&turn, &named)
                && session.state != SessionState::Closed
            {
                turns::insert(&mut ws, &awaited(&session, named), &user_id, shared.env.clock.now());
                let id = session.session_id.as_str();
                ws.audit(audit(&organization, caller, &user_id, AUDITED, id, &request.request_id));
                return Ok((ws, CancelPromptResponse { agent_session: Some(session.to_proto()), rev: 0 }));
            }
            let open = turn.filter(|t| t.state != TurnState::Ended && !t.cancel_requested);
            let (Some(turn), SessionState::Running) = (open, session.state) else {
                return Ok((ws, CancelPromptResponse { agent_session: Some(session.to_proto()), rev: 0 }));
            };
            turns::update(&mut ws, &turn, vec![("cancel_requested", 1.into())]);
            "the turn is being stopped".clone_into(&mut session.condition.message);
            sessions::update(&mut ws, &session, vec![("condition", condition_value(&session.condition))]);
            // A turn that waits for its model provider ends at once.
            if turn.state == TurnState::Intended && !session.model_provider_id.is_empty() {
                wait::wake(&mut ws, shared, &session.model_provider_id);
            }
            flow::cancel::enqueue_for(&mut ws, shared, &session, &turn.message_id)?;
            let id = session.session_id.as_str();
            ws.audit(audit(&organization, caller, &user_id, AUDITED, id, &request.request_id));
            Ok((ws, CancelPromptResponse { agent_session: Some(session.to_proto()), rev: 0 }))
        })
        .await
}

/// A turn that was cancelled before its prompt arrived.
fn awaited(session: &Session, message_id: &MessageId) -> Turn {
    Turn {
        session_id: session.session_id.clone(),
        message_id: message_id.clone(),
        prompt: String::new(),
        state: TurnState::Awaited,
        cancel_requested: true,
        flow_id: String::new(),
        attachments: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
