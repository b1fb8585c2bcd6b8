//! Removes a message from the queue.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{RemoveQueuedMessageRequest, RemoveQueuedMessageResponse};

use super::command::{Command, Decision, scope_of_message};
use crate::context::Context;
use crate::domain::session::MessageState;

/// # Errors
/// `FAILED_PRECONDITION` `MESSAGE_DELIVERED` once it was handed to the agent, `NOT_FOUND`.
pub async fn remove_queued_message(
    cx: &Context,
    caller: &Caller,
    request: RemoveQueuedMessageRequest,
) -> Result<RemoveQueuedMessageResponse> {
    let found = cx.task_of_message(caller, &request.message_id, Role::Member).await?;
    let command = Command {
        scope: scope_of_message(&found, &request.message_id),
        ..Command::new(
            caller,
            found,
            "RemoveQueuedMessage",
            &request.request_id,
            "message.remove",
            &request.message_id,
        )
    };
    let decide = |decision: &mut Decision<'_>| {
        decision.aggregate.queued_message_mut(&request.message_id)?.state = MessageState::Removed;
        Ok(())
    };
    let (_, rev) = command.run(cx, &request, decide, |_| RemoveQueuedMessageResponse { rev: 0 }).await?;
    Ok(RemoveQueuedMessageResponse { rev })
}
