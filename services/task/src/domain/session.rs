//! A session of a task and the messages that wait in it.

use foundry_core::{Error, MessageId, OrganizationId, Result, SessionId, TaskId, Timestamp};
use foundry_proto::common::v1::Attachment;
use foundry_proto::task::v1 as pb;

use super::asked::Asked;
use super::task::FlowFacts;
use super::validate::prefix;

/// Open sessions a task may have.
pub const MAX_SESSIONS: u64 = 10;
/// Messages that may wait in a session.
pub const MAX_QUEUE: u64 = 100;
/// Most bytes of a text that views show.
pub const PREVIEW: usize = 1024;

/// A session's own row, without its messages and its agent side.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    pub session_id: SessionId,
    pub task_id: TaskId,
    pub organization_id: OrganizationId,
    /// When it was created.
    pub create_time: Timestamp,
    /// Revision of its view in the organization's scope.
    pub rev: i64,
    /// Revision of the view in the session's own scope.
    pub feed_rev: i64,
    /// State of the flow that creates it and delivers its messages.
    pub flow: FlowFacts,
    /// Whether a person closed it.
    pub closed: bool,
    /// Whether the provisioner was asked to close the agent's side.
    pub close_sent: bool,
    /// Offset of the newest agent event that the transcript holds.
    pub event_offset: i64,
    /// Id of the last message whose text the transcript holds.
    pub spoken_for: String,
    /// Whether this service wrote that text into the transcript, and not the agent's side.
    pub spoken_here: bool,
    /// Id of the permission request answered last.
    pub answered: String,
    /// The interrupted turn for which the queue was held last. Each turn holds it once, however its end arrives.
    pub held_for: String,
    /// Upstream revision of the failed agent session that a person asked to retry; 0 = none.
    pub retry_rev: i64,
    /// Whether the agent's events must be followed now.
    pub follows: bool,
    /// Choices that the agent's side has not confirmed yet.
    pub asked: Asked,
    /// The view that callers see: the names in it are facts, the rest is derived.
    pub view: pb::Session,
}

impl Session {
    /// The agent to request from the provisioner: empty with a profile, which determines it.
    pub fn asked_agent(&self) -> String {
        if self.view.profile.is_empty() { self.view.agent.clone() } else { String::new() }
    }

    /// Holds the queue because this turn was interrupted. Once per turn: a queue that a person resumed must not be held
    /// again. Remembering one turn is enough, as the next is handed over only after the end of this one was applied.
    pub fn hold_for(&mut self, message_id: &str) {
        if self.held_for != message_id {
            message_id.clone_into(&mut self.held_for);
            self.view.queue_held = true;
        }
    }
}

/// Delivery state of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// In the queue; can be changed.
    Queued,
    /// Being handed over; whether the agent has it is not known yet.
    Delivering,
    /// The agent has it: it is no longer in the queue.
    Delivered,
    /// Removed before it was handed over.
    Removed,
}

impl MessageState {
    /// The stored text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivering => "delivering",
            Self::Delivered => "delivered",
            Self::Removed => "removed",
        }
    }

    /// From the stored text.
    ///
    /// # Errors
    /// `INTERNAL` for a text that no version wrote.
    pub fn parse(text: &str) -> Result<Self> {
        [Self::Queued, Self::Delivering, Self::Delivered, Self::Removed]
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| Error::internal(format!("no message state {text}")))
    }
}

/// A message without its whole text.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Id of the message and of the turn that it starts.
    pub message_id: MessageId,
    pub session_id: SessionId,
    pub task_id: TaskId,
    /// Sort key in the queue: the time it was sent in microseconds, and more than the message before it.
    pub position: i64,
    pub state: MessageState,
    /// Id of the user who sent it.
    pub created_by: String,
    /// When it was sent.
    pub create_time: Timestamp,
    /// The first [`PREVIEW`] bytes of its text at most.
    pub preview: String,
    /// Size of the whole text in bytes.
    pub text_size: i64,
    /// The files sent with it.
    pub attachments: Vec<Attachment>,
}

impl Message {
    /// Sets preview and size from a text.
    pub fn describe(&mut self, text: &str) {
        self.preview = prefix(text, PREVIEW).to_owned();
        self.text_size = i64::try_from(text.len()).unwrap_or(i64::MAX);
    }

    /// Whether it is still in the queue.
    pub fn is_open(&self) -> bool {
        matches!(self.state, MessageState::Queued | MessageState::Delivering)
    }

    /// The wire form. Call it only for a message in the queue; others are not shown.
    pub fn to_proto(&self) -> pb::QueuedMessage {
        let state = match self.state {
            MessageState::Queued => pb::QueuedMessageState::Queued,
            _ => pb::QueuedMessageState::Delivering,
        };
        pb::QueuedMessage {
            message_id: self.message_id.to_string(),
            session_id: self.session_id.to_string(),
            position: self.position,
            text_preview: self.preview.clone(),
            text_size: self.text_size,
            state: state.into(),
            created_by: self.created_by.clone(),
            create_time: Some(self.create_time.to_proto()),
            attachments: self.attachments.clone(),
        }
    }
}
