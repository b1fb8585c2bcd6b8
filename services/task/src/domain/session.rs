//! A session of a task and the messages that wait in it.

use foundry_core::{Error, FlowId, MessageId, OrganizationId, Result, SessionId, TaskId, Timestamp};
use foundry_proto::common::v1::Attachment;
use foundry_proto::provisioner::v1::{AgentSession, AgentSessionState};
use foundry_proto::task::v1 as pb;

use super::asked::Asked;
use super::task::{AgentChoice, FlowFacts, Task};
use super::validate::{PREVIEW, prefix};

/// Open sessions a task may have.
pub const MAX_SESSIONS: u64 = 10;
/// Messages that may wait in a session.
pub const MAX_QUEUE: u64 = 100;

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
    /// Whether the provisioner was asked to delete its copy of the events.
    pub released: bool,
    /// Choices that the agent's side has not confirmed yet.
    pub asked: Asked,
    /// The view that callers see: the names in it are facts, the rest is derived.
    pub view: pb::Session,
    /// Whether a part of the stored row cannot be decoded. `view` then stands for the stored one and is never written.
    pub damaged: bool,
}

impl Session {
    /// The agent to request from the provisioner: empty with a profile, which determines it.
    pub fn asked_agent(&self) -> String {
        if self.view.profile.is_empty() { self.view.agent.clone() } else { String::new() }
    }

    /// Whether the transcript holds everything that the agent's side has.
    pub fn caught_up(&self, agent: Option<&AgentSession>) -> bool {
        agent.is_none_or(|a| a.last_offset <= self.event_offset)
    }

    /// Whether its agent can take a message: no turn runs, and the transcript holds all of the last one.
    pub fn can_take(&self, agent: Option<&AgentSession>) -> bool {
        agent.is_some_and(|a| a.state() == AgentSessionState::Ready) && self.caught_up(agent)
    }

    /// Whether the agent's events must be followed: it has more of them, or a turn runs. A turn that waits for a
    /// person has none until it is answered, and others may need its stream.
    pub fn to_follow(&self, agent: Option<&AgentSession>) -> bool {
        let asks = self.view.pending_permission.is_some() || self.view.pending_elicitation.is_some();
        let runs = agent.is_some_and(|a| a.state() == AgentSessionState::Running);
        !self.caught_up(agent) || (runs && !asks)
    }

    /// Holds the queue because this turn was interrupted; only once, for who resumed it must not find it held again.
    /// One turn is enough to know: the next is handed over only when the end of this one was taken in.
    pub fn hold_for(&mut self, message_id: &str) {
        if self.held_for != message_id {
            message_id.clone_into(&mut self.held_for);
            self.view.queue_held = true;
        }
    }

    /// A session of this task that has not begun: the flow with this id is to create it.
    pub fn new(
        task: &Task,
        session_id: SessionId,
        flow_id: FlowId,
        name: &str,
        choice: &AgentChoice,
        now: Timestamp,
    ) -> Self {
        let view = pb::Session {
            session_id: session_id.to_string(),
            task_id: task.task_id.to_string(),
            organization_id: task.organization_id.to_string(),
            name: name.to_owned(),
            agent: choice.agent.clone(),
            profile: choice.profile.clone(),
            permission_policy: choice.policy,
            create_time: Some(now.to_proto()),
            ..pb::Session::default()
        };
        Self {
            session_id,
            task_id: task.task_id.clone(),
            organization_id: task.organization_id.clone(),
            create_time: now,
            rev: 0,
            feed_rev: 0,
            flow: FlowFacts::fresh(flow_id),
            closed: false,
            close_sent: false,
            event_offset: 0,
            held_for: String::new(),
            spoken_for: String::new(),
            spoken_here: false,
            answered: String::new(),
            retry_rev: 0,
            follows: false,
            released: false,
            asked: Asked { start: choice.start.clone(), ..Asked::default() },
            view,
            damaged: false,
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

    /// A message that waits in a session, by the time at which it was sent. `created_by` is empty when no user is
    /// behind it.
    pub fn new(
        session: &Session,
        message_id: MessageId,
        text: &str,
        attachments: &[Attachment],
        created_by: String,
        now: Timestamp,
    ) -> Self {
        let mut message = Self {
            message_id,
            session_id: session.session_id.clone(),
            task_id: session.task_id.clone(),
            position: now.as_micros(),
            state: MessageState::Queued,
            created_by,
            create_time: now,
            preview: String::new(),
            text_size: 0,
            attachments: attachments.to_vec(),
        };
        message.describe(text);
        message
    }
}
