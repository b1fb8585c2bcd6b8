//! RespondToPermission: records the answer; a job delivers it to the agent.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::common::v1::{PermissionAnswer, TranscriptPart, transcript_part::Body};
use foundry_proto::provisioner::v1::{RespondToPermissionRequest, RespondToPermissionResponse};
use foundry_store::WriteSet;

use super::{Command, audit, behalf, session_for};
use crate::domain::Session;
use crate::flow::{self, permission::Answer};
use crate::runtime::waiting;
use crate::shared::Shared;
use crate::store::events::{self, Appended};
use crate::store::permissions::Permission;
use crate::store::{condition_value, permissions, sessions};

/// Answers a permission request of the agent.
pub async fn respond_to_permission(
    shared: &Shared,
    caller: &Caller,
    request: RespondToPermissionRequest,
) -> Result<RespondToPermissionResponse, Error> {
    let organization = session_for(shared, caller, &request.session_id).await?.organization_id;
    let user_id = behalf(caller, &request.user_id)?;
    let body = RespondToPermissionRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &organization, "RespondToPermission", &request.request_id, &body)?;
    command
        .run(|| async {
            let session = session_for(shared, caller, &request.session_id).await?;
            let mut ws = WriteSet::new();
            let asked = find(shared, &session, &request).await?;
            if !asked.pending {
                return repeated(&session, &asked, &request).map(|()| {
                    (ws, RespondToPermissionResponse { agent_session: Some(session.to_proto()), rev: 0 })
                });
            }
            let session = answer(shared, &mut ws, session, &asked, &request.option_id, &user_id).await?;
            let id = session.session_id.as_str();
            ws.audit(audit(&organization, caller, &user_id, "permission.answer", id, &request.request_id));
            Ok((ws, RespondToPermissionResponse { agent_session: Some(session.to_proto()), rev: 0 }))
        })
        .await
}

async fn find(
    shared: &Shared,
    session: &Session,
    request: &RespondToPermissionRequest,
) -> Result<Permission, Error> {
    let id = &request.permission_id;
    let asked = permissions::find(&shared.store, &session.session_id, id).await?;
    let asked = asked.ok_or_else(|| Error::not_found("permission request", id))?;
    let known = asked.request.options.iter().any(|o| o.option_id == request.option_id);
    if !request.option_id.is_empty() && !known {
        return Err(Error::invalid_field("option_id", "is not one of the request's options"));
    }
    Ok(asked)
}

/// Repeating the given answer is fine; any other answer comes too late.
fn repeated(
    session: &Session,
    asked: &Permission,
    request: &RespondToPermissionRequest,
) -> Result<(), Error> {
    if asked.answered && asked.option_id == request.option_id {
        return Ok(());
    }
    let text = if asked.answered {
        "the request was already answered differently"
    } else {
        "the turn ended before the request was answered"
    };
    Err(Error::precondition("PERMISSION_CLOSED", session.session_id.as_str(), text))
}

async fn answer(
    shared: &Shared,
    ws: &mut WriteSet,
    session: Session,
    asked: &Permission,
    option_id: &str,
    user_id: &str,
) -> Result<Session, Error> {
    let now = shared.env.clock.now();
    let id = &asked.request.permission_id;
    permissions::answer(ws, &session.session_id, id, option_id);
    let part = TranscriptPart {
        message_id: session.message_id.clone(),
        body: Some(Body::PermissionAnswer(PermissionAnswer {
            permission_id: id.clone(),
            option_id: option_id.to_owned(),
            user_id: user_id.to_owned(),
        })),
        ..TranscriptPart::default()
    };
    let revs = sessions::revs(ws, &session.organization_id, &session.session_id);
    let appended = events::append(ws, &session, revs.session, now, vec![part]);
    let others = permissions::pending(&shared.store, &session.session_id).await?;
    let next = others.into_iter().map(|p| p.request).find(|r| r.permission_id != *id);
    let condition = waiting(next.as_ref(), session.pending_elicitation.as_ref(), now);
    let mut set = vec![
        ("pending_permission", sessions::permission_value(next.as_ref())),
        ("condition", condition_value(&condition)),
    ];
    set.extend(appended.columns());
    sessions::update(ws, &session, set);
    let option = Some(option_id).filter(|o| !o.is_empty());
    let answer = Answer::permission(&asked.acp_id, option);
    flow::permission::enqueue_for(ws, shared, &session, vec![answer])?;
    let Appended { last_offset, stored_bytes } = appended;
    Ok(Session { last_offset, stored_bytes, pending_permission: next, condition, ..session })
}
