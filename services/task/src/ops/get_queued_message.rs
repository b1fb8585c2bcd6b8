//! The whole text of a queued message.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{GetQueuedMessageRequest, GetQueuedMessageResponse};

use crate::context::Context;
use crate::domain::session::MessageState;
use crate::store::messages;

/// # Errors
/// `NOT_FOUND`, also for one that was removed; `FAILED_PRECONDITION` `MESSAGE_DELIVERED` once it was
/// handed to the agent.
pub async fn get_queued_message(
    cx: &Context,
    caller: &Caller,
    request: GetQueuedMessageRequest,
) -> Result<GetQueuedMessageResponse> {
    cx.task_of_message(caller, &request.message_id, Role::Viewer).await?;
    let found = messages::find(&cx.store, &request.message_id.parse()?).await?;
    match found {
        None => Err(Error::not_found("message", &request.message_id)),
        Some((message, _)) if message.state == MessageState::Removed => {
            Err(Error::not_found("message", &request.message_id))
        }
        Some((message, _)) if message.state == MessageState::Delivered => Err(Error::precondition(
            "MESSAGE_DELIVERED",
            message.message_id.as_str(),
            "the message has already been sent to the agent",
        )
        .next_action("read it in the session's transcript")),
        Some((message, text)) => Ok(GetQueuedMessageResponse { message: Some(message.to_proto()), text }),
    }
}

#[cfg(test)]
mod tests {
    use foundry_core::Code;
    use foundry_proto::task::v1::{RemoveQueuedMessageRequest, SendMessageRequest, SessionState};

    use super::*;
    use crate::ops;
    use crate::testing::World;

    #[tokio::test]
    async fn returns_the_whole_text_while_the_message_waits_and_not_to_strangers() {
        let world = World::new().await;
        let (tenant, other) = (world.tenant(Role::Member).await, world.tenant(Role::Owner).await);
        let running = world.start().await;
        let created = running.create(&tenant, "first").await;
        let (task, session) = (created.task.unwrap().task_id, created.session.unwrap().session_id);
        running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
        let text = "long ".repeat(10_000);
        let send =
            SendMessageRequest { session_id: session, text: text.clone(), ..SendMessageRequest::default() };
        let sent = ops::send_message::send_message(&running.cx, &tenant.caller, send).await.unwrap();
        let message_id = sent.message.as_ref().unwrap().message_id.clone();
        let ask = GetQueuedMessageRequest { message_id: message_id.clone() };
        let found = get_queued_message(&running.cx, &tenant.caller, ask.clone()).await.unwrap();
        assert_eq!((found.message, found.text), (sent.message, text));
        let foreign = get_queued_message(&running.cx, &other.caller, ask.clone()).await.unwrap_err();
        assert_eq!(foreign.code(), Code::NotFound);
        let remove = RemoveQueuedMessageRequest { message_id, request_id: String::new() };
        ops::remove_queued_message::remove_queued_message(&running.cx, &tenant.caller, remove).await.unwrap();
        let gone = get_queued_message(&running.cx, &tenant.caller, ask).await.unwrap_err();
        assert_eq!((gone.code(), gone.message()), (foreign.code(), foreign.message()));
        running.stop().await;
    }
}
