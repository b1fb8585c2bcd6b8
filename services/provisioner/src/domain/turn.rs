//! A turn: one prompt and what became of it; and the permissions asked in it.

use foundry_core::{AttachmentId, MessageId, SessionId};

/// How far a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnState {
    /// Cancelled before its prompt arrived.
    Awaited,
    /// Recorded, perhaps on its way to the agent.
    Intended,
    /// The agent has it.
    Sent,
    /// Answered, failed or cancelled.
    Ended,
}

impl TurnState {
    /// The stored text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Awaited => "awaited",
            Self::Intended => "intended",
            Self::Sent => "sent",
            Self::Ended => "ended",
        }
    }

    /// From the stored text; an unknown one reads as ended: nothing is prompted by mistake.
    pub fn parse(text: &str) -> Self {
        [Self::Awaited, Self::Intended, Self::Sent]
            .into_iter()
            .find(|s| s.as_str() == text)
            .unwrap_or(Self::Ended)
    }
}

/// One prompt of a session and its delivery.
#[derive(Clone, Debug)]
pub struct Turn {
    pub session_id: SessionId,
    /// The prompt's id.
    pub message_id: MessageId,
    /// What is sent to the agent, without the files.
    pub prompt: String,
    /// How far it is.
    pub state: TurnState,
    /// Whether a stop was requested.
    pub cancel_requested: bool,
    /// The flow that delivers it.
    pub flow_id: String,
    /// The files sent with it, in order.
    pub attachments: Vec<AttachmentId>,
}

/// What became of a permission request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionState {
    /// Waits for an answer.
    Pending,
    /// A person or the permission policy has answered.
    Answered,
    /// Its turn ended before it was answered.
    Void,
}

impl PermissionState {
    /// The stored text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Answered => "answered",
            Self::Void => "void",
        }
    }
}
