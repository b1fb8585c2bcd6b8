//! A turn: one prompt and what became of it; and the permissions asked in it.

use foundry_core::{AttachmentId, MessageId, SessionId};

/// How far a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnState {
    /// Not there yet: it was cancelled before its prompt came.
    Awaited,
    /// Recorded, perhaps on its way to the agent.
    Intended,
    /// The agent has it.
    Sent,
    /// Over.
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

/// One prompt.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The session.
    pub session_id: SessionId,
    /// The prompt's id.
    pub message_id: MessageId,
    /// Its text.
    pub prompt: String,
    /// How far it is.
    pub state: TurnState,
    /// Whether somebody asked to stop it.
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
    /// Answered.
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
