//! PromptAgentSession: records a turn; a job delivers it.

use foundry_authn::Caller;
use foundry_core::{AttachmentId, Error, MessageId};
use foundry_proto::common::v1::Condition;
use foundry_proto::provisioner::v1::{PromptAgentSessionRequest, PromptAgentSessionResponse};
use foundry_server::RequestContext;
use foundry_store::{Value, WriteSet};

use super::{Command, audit, behalf, session_for};
use crate::domain::{MAX_PROMPT, Session, SessionState, Turn, TurnState};
use crate::flow;
use crate::shared::Shared;
use crate::store::{attachments, condition_value, sessions, turns};

/// Records a prompt and starts a turn.
pub async fn prompt_agent_session(
    shared: &Shared,
    caller: &Caller,
    request: PromptAgentSessionRequest,
) -> Result<PromptAgentSessionResponse, Error> {
    let message_id: MessageId = request.message_id.parse()?;
    let files = super::attachment_ids(&request.attachment_ids)?;
    if (request.text.is_empty() && files.is_empty()) || request.text.len() > MAX_PROMPT {
        return Err(Error::invalid_field("text", "must be 1 byte to 256 KiB"));
    }
    let organization = session_for(shared, caller, &request.session_id).await?.organization_id;
    let user_id = behalf(caller, &request.user_id)?;
    let body = PromptAgentSessionRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &organization, "PromptAgentSession", &request.request_id, &body)?;
    command
        .run(|| async {
            let session = session_for(shared, caller, &request.session_id).await?;
            let mut ws = WriteSet::new();
            let there = turns::find(&shared.store, &session.session_id, &message_id).await?;
            let awaited = there.as_ref().filter(|t| t.state == TurnState::Awaited);
            if there.is_some() && awaited.is_none() {
                return Ok((
                    ws,
                    PromptAgentSessionResponse { agent_session: Some(session.to_proto()), rev: 0 },
                ));
            }
            // They are kept for good from now on. A file that is gone is reported when the prompt is delivered.
            for id in &files {
                let file = attachments::find(&shared.store, id).await?;
                if let Some(file) = file.filter(|f| f.organization_id == organization && f.is_ready()) {
                    attachments::keep(&mut ws, &file, session.session_id.as_str(), None);
                }
            }
            let prompt =
                Prompt { message_id: &message_id, text: &request.text, files: &files, user_id: &user_id };
            let session = begin(shared, &mut ws, session, awaited, &prompt)?;
            let id = session.session_id.as_str();
            ws.audit(audit(&organization, caller, &user_id, "agent_session.prompt", id, &request.request_id));
            Ok((ws, PromptAgentSessionResponse { agent_session: Some(session.to_proto()), rev: 0 }))
        })
        .await
}

struct Prompt<'a> {
    message_id: &'a MessageId,
    text: &'a str,
    files: &'a [AttachmentId],
    user_id: &'a str,
}

fn begin(
    shared: &Shared,
    ws: &mut WriteSet,
    session: Session,
    awaited: Option<&Turn>,
    &Prompt { message_id, text, files, user_id }: &Prompt<'_>,
) -> Result<Session, Error> {
    match session.state {
        SessionState::Ready => {}
        SessionState::Running => {
            let text = "a turn is running in this session";
            return Err(Error::precondition("TURN_RUNNING", session.session_id.as_str(), text)
                .next_action("wait for it to finish, or cancel it"));
        }
        other => {
            let text = format!("the session is not ready: it is {}", other.as_str());
            return Err(Error::precondition("SESSION_NOT_READY", session.session_id.as_str(), text)
                .next_action("wait until it is ready"));
        }
    }
    let now = shared.env.clock.now();
    let flow_id = shared.flow_id();
    let turn = Turn {
        session_id: session.session_id.clone(),
        message_id: message_id.clone(),
        prompt: text.to_owned(),
        state: TurnState::Intended,
        cancel_requested: awaited.is_some(),
        flow_id: flow_id.to_string(),
        attachments: files.to_vec(),
    };
    match awaited {
        Some(awaited) => turns::arrive(ws, awaited, &turn, user_id, now),
        None => turns::insert(ws, &turn, user_id, now),
    }
    let condition = Condition {
        waiting_on: "agent".to_owned(),
        message: "a turn is running".to_owned(),
        since_time: Some(now.to_proto()),
        ..Condition::default()
    };
    let turn_count = session.turn_count + 1;
    let set = vec![
        ("state", SessionState::Running.as_str().into()),
        ("condition", condition_value(&condition)),
        ("message_id", message_id.into()),
        ("turn_count", turn_count.into()),
        ("pending_permission", Value::Null),
        ("pending_elicitation", Value::Null),
        // A refusal before this turn does not concern it.
        ("model_condition", Value::Null),
    ];
    sessions::update(ws, &session, set);
    flow::turn::enqueue_for(ws, &session, message_id, flow_id, &RequestContext::current_traceparent())?;
    let message_id = message_id.to_string();
    Ok(Session { state: SessionState::Running, condition, message_id, turn_count, ..session })
}
