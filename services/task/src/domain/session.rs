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

/// A session with what other rows do not know.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Id.
    pub session_id: SessionId,
    /// Its task.
    pub task_id: TaskId,
    /// Owner.
    pub organization_id: OrganizationId,
    /// When it was created.
    pub create_time: Timestamp,
    /// Revision of the view in the organization.
    pub rev: i64,
    /// Revision of the view in the session's own scope.
    pub feed_rev: i64,
    /// Its creation and the delivery of its messages.
    pub flow: FlowFacts,
    /// Whether a person closed it.
    pub closed: bool,
    /// Whether closing the agent's side was asked for.
    pub close_sent: bool,
    /// Offset of the newest agent event that the transcript holds.
    pub event_offset: i64,
    /// The message whose text the transcript holds last.
    pub spoken_for: String,
    /// Whether this service wrote that text into the transcript, and not the agent's side.
    pub spoken_here: bool,
    /// The permission request that was answered last.
    pub answered: String,
    /// The interrupted turn for which the queue was held last: once for each, whichever way its end is told first.
    pub held_for: String,
    /// Upstream revision of the failed agent session that a person wants retried; 0 = none.
    pub retry_rev: i64,
    /// Whether the agent's events must be followed.
    pub follows: bool,
    /// What was asked of it and is not yet seen at the agent's side.
    pub asked: Asked,
    /// What people see: the names in it are facts, the rest is derived.
    pub view: pb::Session,
}

impl Session {
    /// The agent to ask the provisioner for: none with a profile, which says it.
    pub fn asked_agent(&self) -> String {
        if self.view.profile.is_empty() { self.view.agent.clone() } else { String::new() }
    }

    /// Whether the transcript holds everything that the agent's side has.
    pub fn caught_up(&self, agent: Option<&AgentSession>) -> bool {
        agent.is_none_or(|a| a.last_offset <= self.event_offset)
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
            asked: Asked { start: choice.start.clone(), ..Asked::default() },
            view,
        }
    }
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// Waits; can be changed.
    Queued,
    /// Handed to the agent; whether it has it is not known yet.
    Delivering,
    /// The agent has it: it is no longer in the queue.
    Delivered,
    /// Taken back before it was handed over.
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
    /// Id; also that of its turn.
    pub message_id: MessageId,
    /// Its session.
    pub session_id: SessionId,
    /// Its task.
    pub task_id: TaskId,
    /// Order in the queue.
    pub position: i64,
    /// How far it is.
    pub state: MessageState,
    /// Who sent it.
    pub created_by: String,
    /// When.
    pub create_time: Timestamp,
    /// How it begins.
    pub preview: String,
    /// Its size in bytes.
    pub text_size: i64,
    /// The files sent with it.
    pub attachments: Vec<Attachment>,
}

impl Message {
    /// Takes over a text's preview and size.
    pub fn describe(&mut self, text: &str) {
        self.preview = prefix(text, PREVIEW).to_owned();
        self.text_size = i64::try_from(text.len()).unwrap_or(i64::MAX);
    }

    /// Whether it is in the queue.
    pub fn is_open(&self) -> bool {
        matches!(self.state, MessageState::Queued | MessageState::Delivering)
    }

    /// As the wire shows it; one that left the queue is shown nowhere.
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
