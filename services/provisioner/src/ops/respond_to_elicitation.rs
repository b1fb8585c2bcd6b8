//! RespondToElicitation: records the answer to a form; a job delivers it to the agent.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::common::v1::{
    ElicitationAction, ElicitationAnswer, TranscriptPart, transcript_part::Body,
};
use foundry_proto::provisioner::v1::{RespondToElicitationRequest, RespondToElicitationResponse};
use foundry_store::WriteSet;
use serde_json::Value;

use super::{Command, audit, behalf, session_for};
use crate::domain::Session;
use crate::flow::{self, permission::Answer};
use crate::runtime::waiting;
use crate::shared::Shared;
use crate::store::elicitations::Elicitation;
use crate::store::events::{self, Appended};
use crate::store::{condition_value, elicitations, sessions};

/// Answers a form of the agent.
///
/// # Errors
/// `ELICITATION_CLOSED` when it was answered differently or its turn ended, `INVALID_ARGUMENT` naming the field whose
/// value the form does not allow, `NOT_FOUND`.
pub async fn respond_to_elicitation(
    shared: &Shared,
    caller: &Caller,
    request: RespondToElicitationRequest,
) -> Result<RespondToElicitationResponse, Error> {
    let organization = session_for(shared, caller, &request.session_id).await?.organization_id;
    let user_id = behalf(caller, &request.user_id)?;
    let body = RespondToElicitationRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &organization, "RespondToElicitation", &request.request_id, &body)?;
    command
        .run(|| async {
            let session = session_for(shared, caller, &request.session_id).await?;
            let mut ws = WriteSet::new();
            let id = &request.elicitation_id;
            let asked = elicitations::find(&shared.store, &session.session_id, id).await?;
            let asked = asked.ok_or_else(|| Error::not_found("form", id))?;
            let content = foundry_forms::answer(&asked.request, request.action(), &request.values)?;
            if !asked.pending {
                return repeated(&session, &asked, &content).map(|()| {
                    (ws, RespondToElicitationResponse { agent_session: Some(session.to_proto()), rev: 0 })
                });
            }
            let session = answer(shared, &mut ws, session, &asked, (&request, &content), &user_id).await?;
            let id = session.session_id.as_str();
            ws.audit(audit(&organization, caller, &user_id, "elicitation.answer", id, &request.request_id));
            Ok((ws, RespondToElicitationResponse { agent_session: Some(session.to_proto()), rev: 0 }))
        })
        .await
}

/// Repeating the given answer is fine; any other answer comes too late.
fn repeated(session: &Session, asked: &Elicitation, content: &Value) -> Result<(), Error> {
    let content = content.to_string();
    if asked.answered && asked.answer == content {
        return Ok(());
    }
    let text = if asked.answered {
        "the form was already answered differently"
    } else {
        "the turn ended before the form was answered"
    };
    Err(Error::precondition("ELICITATION_CLOSED", session.session_id.as_str(), text))
}

async fn answer(
    shared: &Shared,
    ws: &mut WriteSet,
    session: Session,
    asked: &Elicitation,
    (request, content): (&RespondToElicitationRequest, &Value),
    user_id: &str,
) -> Result<Session, Error> {
    let now = shared.env.clock.now();
    let id = &asked.request.elicitation_id;
    elicitations::answer(ws, &session.session_id, id, content);
    let accepted = request.action() == ElicitationAction::Accept;
    let part = TranscriptPart {
        message_id: session.message_id.clone(),
        body: Some(Body::ElicitationAnswer(ElicitationAnswer {
            elicitation_id: id.clone(),
            action: request.action,
            values: if accepted { request.values.clone() } else { Vec::new() },
            user_id: user_id.to_owned(),
        })),
        ..TranscriptPart::default()
    };
    let revs = sessions::revs(ws, &session.organization_id, &session.session_id);
    let appended = events::append(ws, &session, revs.session, now, vec![part]);
    let others = elicitations::pending(&shared.store, &session.session_id).await?;
    let next = others.into_iter().map(|e| e.request).find(|r| r.elicitation_id != *id);
    let condition = waiting(session.pending_permission.as_ref(), next.as_ref(), now);
    let mut set = vec![
        ("pending_elicitation", sessions::elicitation_value(next.as_ref())),
        ("condition", condition_value(&condition)),
    ];
    set.extend(appended.columns());
    sessions::update(ws, &session, set);
    let answer = Answer::written(&asked.acp_id, content.clone());
    flow::permission::enqueue_for(ws, shared, &session, vec![answer])?;
    let Appended { last_offset, stored_bytes } = appended;
    Ok(Session { last_offset, stored_bytes, pending_elicitation: next, condition, ..session })
}

#[cfg(test)]
mod tests;
