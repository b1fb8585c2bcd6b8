//! Changes the text or the files of a queued message.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{UpdateQueuedMessageRequest, UpdateQueuedMessageResponse};
use foundry_service::RequestKey;
use foundry_store::Scope;

use super::command::{Command, Decision, scope_of_message};
use crate::attachments;
use crate::context::Context;
use crate::domain::session::Message;
use crate::domain::validate;
use crate::store::messages;

const METHOD: &str = "UpdateQueuedMessage";

/// # Errors
/// `FAILED_PRECONDITION` `MESSAGE_DELIVERED` once it was handed to the agent, `INVALID_ARGUMENT`,
/// `NOT_FOUND`.
pub async fn update_queued_message(
    cx: &Context,
    caller: &Caller,
    request: UpdateQueuedMessageRequest,
) -> Result<UpdateQueuedMessageResponse> {
    let found = cx.task_of_message(caller, &request.message_id, Role::Member).await?;
    let key =
        RequestKey::new(found.task.organization_id.as_str(), caller, METHOD, &request.request_id, &request)?;
    // A repeated request gets its first answer even if its files are gone by now.
    if let Some((answer, rev)) = key.first_answer::<UpdateQueuedMessageResponse>(&cx.store).await? {
        return Ok(UpdateQueuedMessageResponse { rev, ..answer });
    }
    // Unset keeps the files; the decision checks that text or files remain.
    let files = match &request.attachments {
        Some(wanted) => {
            let organization = &found.task.organization_id;
            match found.message(&request.message_id) {
                Some(m) => {
                    Some(attachments::hold(cx, organization, &m.session_id, &wanted.attachment_ids).await?)
                }
                // It has left the queue: the decision returns the error.
                None => Some(Vec::new()),
            }
        }
        None => None,
    };
    let command = Command {
        scope: scope_of_message(&found, &request.message_id),
        ..Command::new(caller, found, METHOD, &request.request_id, "message.update", &request.message_id)
    };
    let decide = |decision: &mut Decision<'_>| {
        decision.aggregate.task.require_active()?;
        let message = decision.aggregate.queued_message_mut(&request.message_id)?;
        if let Some(files) = &files {
            message.attachments.clone_from(files);
        }
        validate::message("text", &request.text, !message.attachments.is_empty())?;
        message.describe(&request.text);
        let message = message.clone();
        let feed = decision.ws.scope(Scope::session(&message.session_id));
        messages::update_text(&mut decision.ws, feed, &message, &request.text);
        Ok(())
    };
    let (answer, rev) = command
        .run(cx, &request, decide, |aggregate| UpdateQueuedMessageResponse {
            message: aggregate.message(&request.message_id).map(Message::to_proto),
            rev: 0,
        })
        .await?;
    Ok(UpdateQueuedMessageResponse { rev, ..answer })
}
