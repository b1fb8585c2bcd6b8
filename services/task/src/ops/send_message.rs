//! Queues a message; it is delivered when the session is ready and earlier turns have ended.

use foundry_authn::Caller;
use foundry_core::{MessageId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{SendMessageRequest, SendMessageResponse};
use foundry_service::RequestKey;
use foundry_store::Scope;

use super::command::{Command, Decision};
use super::queueing::{Queued, queue};
use crate::attachments;
use crate::context::Context;
use crate::domain::session::Message;
use crate::domain::validate;

const METHOD: &str = "SendMessage";

/// Stores the message in any state of the sandbox, and resumes a held queue.
///
/// # Errors
/// `FAILED_PRECONDITION` for a closed session or ended task, and for one without a sandbox whose repository was removed;
/// `RESOURCE_EXHAUSTED` for a full queue, `INVALID_ARGUMENT`, `NOT_FOUND`.
pub async fn send_message(
    cx: &Context,
    caller: &Caller,
    request: SendMessageRequest,
) -> Result<SendMessageResponse> {
    let found = cx.task_of_session(caller, &request.session_id, Role::Member).await?;
    validate::message("text", &request.text, !request.attachment_ids.is_empty())?;
    let message_id = MessageId::generate(&cx.env);
    let session_id = request.session_id.parse()?;
    let organization = found.task.organization_id.clone();
    let key = RequestKey::new(organization.as_str(), caller, METHOD, &request.request_id, &request)?;
    // A repeated request gets its first answer even if its files are gone by now.
    if let Some((answer, rev)) = key.first_answer::<SendMessageResponse>(&cx.store).await? {
        return Ok(SendMessageResponse { rev, ..answer });
    }
    let files = attachments::hold(cx, &organization, &session_id, &request.attachment_ids).await?;
    let scope = Scope::session(&session_id);
    let created_by = caller.on_behalf_of().map(ToString::to_string).unwrap_or_default();
    let decide = |decision: &mut Decision<'_>| {
        let queued = Queued {
            session_id: &request.session_id,
            message_id: &message_id,
            text: &request.text,
            files: &files,
            created_by: &created_by,
        };
        queue(decision, &queued)
    };
    let command = Command {
        scope: scope.clone(),
        ..Command::new(caller, found, METHOD, &request.request_id, "message.send", message_id.as_str())
    };
    let (answer, rev) = command
        .run(cx, &request, decide, |aggregate| SendMessageResponse {
            message: aggregate.messages.iter().find(|m| m.message_id == message_id).map(Message::to_proto),
            rev: 0,
        })
        .await?;
    Ok(SendMessageResponse { rev, ..answer })
}
