//! Adding a message to the queue of a session, for the ops that send one.

use foundry_core::{Error, MessageId, Result};
use foundry_proto::common::v1::Attachment;
use foundry_store::Scope;

use super::command::Decision;
use crate::domain::session::{MAX_QUEUE, Message, MessageState};
use crate::store::messages;

/// A message to queue.
pub struct Queued<'a> {
    pub session_id: &'a str,
    pub message_id: &'a MessageId,
    pub text: &'a str,
    pub files: &'a [Attachment],
    /// Id of the user who sends it; empty when no user is behind it.
    pub created_by: &'a str,
}

/// Adds the message in any state of the sandbox, and resumes a held queue.
///
/// # Errors
/// `FAILED_PRECONDITION` for a closed session or ended task, and for one without a sandbox whose repository was removed;
/// `RESOURCE_EXHAUSTED` for a full queue.
pub fn queue(decision: &mut Decision<'_>, queued: &Queued<'_>) -> Result<()> {
    // A living sandbox still answers; without one, nothing ever delivers the message.
    if !decision.aggregate.has_living_sandbox() {
        decision.aggregate.require_repository()?;
    }
    let waiting = decision.aggregate.queue(queued.session_id).count() as u64;
    let last = decision.aggregate.messages.iter().map(|m| m.position).max().unwrap_or(0);
    let now = decision.now;
    let session = decision.open_session(queued.session_id)?;
    // The sender has seen why the queue was held.
    session.view.queue_held = false;
    if waiting >= MAX_QUEUE {
        return Err(Error::quota("queued_messages", queued.session_id, waiting, MAX_QUEUE));
    }
    let (id, user) = (queued.message_id.clone(), queued.created_by.to_owned());
    let mut message = Message::new(session, id, queued.text, queued.files, user, now);
    message.position = message.position.max(last + 1);
    let feed = decision.ws.scope(Scope::session(&message.session_id));
    // A user's own message goes before one of the rule that still waits.
    let of_rule = decision.aggregate.task.auto_fix.message_id.clone();
    let mut waits = decision.aggregate.messages.iter_mut();
    if let Some(of_rule) = waits.find(|m| {
        m.message_id.as_str() == of_rule
            && m.state == MessageState::Queued
            && m.session_id == message.session_id
    }) {
        std::mem::swap(&mut of_rule.position, &mut message.position);
        messages::update_position(&mut decision.ws, feed, of_rule);
    }
    messages::insert(&mut decision.ws, feed, &message, queued.text);
    decision.aggregate.messages.push(message);
    decision.aggregate.messages.sort_by_key(|m| m.position);
    Ok(())
}
