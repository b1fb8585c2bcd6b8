//! An agent session: the provisioner's side of a session.

use foundry_core::{OrganizationId, SandboxId, SessionId, Timestamp};
use foundry_proto::common::v1::{Condition, ElicitationRequest, PermissionPolicy, PermissionRequest, Stage};
use foundry_proto::provisioner::v1 as proto;
use foundry_sandbox::TapCursor;

use super::Offer;
use super::fold::Fold;

/// How far an agent session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Waits for the sandbox.
    Pending,
    /// Stage `session_creating` runs.
    Creating,
    /// Ready for a prompt.
    Ready,
    /// A turn runs.
    Running,
    /// The runtime or the agent died during a turn; it is restarted without a request.
    Interrupted,
    /// Creation failed for good.
    Error,
    /// It takes no prompts any more; its events stay.
    Closed,
}

impl SessionState {
    const ALL: [Self; 7] = [
        Self::Pending,
        Self::Creating,
        Self::Ready,
        Self::Running,
        Self::Interrupted,
        Self::Error,
        Self::Closed,
    ];

    /// The stored text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Error => "error",
            Self::Closed => "closed",
        }
    }

    /// From the stored text; an unknown one reads as an error, which starts nothing.
    pub fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|s| s.as_str() == text).unwrap_or(Self::Error)
    }

    /// Whether an agent process belongs to it now.
    pub const fn is_living(self) -> bool {
        matches!(self, Self::Ready | Self::Running)
    }

    /// As on the wire.
    pub const fn to_proto(self) -> proto::AgentSessionState {
        match self {
            Self::Pending => proto::AgentSessionState::Pending,
            Self::Creating => proto::AgentSessionState::Creating,
            Self::Ready => proto::AgentSessionState::Ready,
            Self::Running => proto::AgentSessionState::Running,
            Self::Interrupted => proto::AgentSessionState::Interrupted,
            Self::Error => proto::AgentSessionState::Error,
            Self::Closed => proto::AgentSessionState::Closed,
        }
    }
}

/// An agent session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id; also the name of the conversation at the runtime.
    pub session_id: SessionId,
    pub organization_id: OrganizationId,
    /// The task it belongs to.
    pub task_id: String,
    /// The sandbox that its agent runs in.
    pub sandbox_id: SandboxId,
    /// The agent's name.
    pub agent: String,
    /// The profile it was made with; empty when there was none.
    pub profile_id: String,
    /// How permission requests are answered.
    pub permission_policy: PermissionPolicy,
    /// How far it is.
    pub state: SessionState,
    /// Why it is in this state, and what a person can do about it.
    pub condition: Condition,
    /// The model provider that its agent was started with; empty when it has none.
    pub model_provider_id: String,
    /// The newest turn in which a model answered; empty before the first.
    pub model_answered: String,
    /// The newest turn whose transcript mentions a short wait for a quota; empty before the first.
    pub model_noticed: String,
    /// What the model provider last refused; none when its last call succeeded.
    pub model_condition: Option<Condition>,
    /// The running or last turn; empty before the first.
    pub message_id: String,
    /// Turns so far.
    pub turn_count: i64,
    /// The agent's own id of the conversation.
    pub acp_session: String,
    /// What the agent takes in prompts besides text, separated by commas: `image`, `embedded`.
    pub prompt_kinds: String,
    /// Number of the newest agent process started for it, from 1.
    pub generation: i64,
    /// The newest generation whose start the transcript mentions.
    pub reported_generation: i64,
    /// How far the tap log was read.
    pub cursor: TapCursor,
    /// What is carried from one stretch of the log to the next.
    pub fold: Fold,
    /// The oldest permission request without an answer.
    pub pending_permission: Option<PermissionRequest>,
    /// The oldest form without an answer.
    pub pending_elicitation: Option<ElicitationRequest>,
    /// What the agent offers to choose from, and what was chosen.
    pub offer: Offer,
    /// Offset of the newest event.
    pub last_offset: i64,
    /// Encoded bytes of its events that are stored.
    pub stored_bytes: i64,
    /// Encoded bytes of what its agent said and did that were not stored because of a limit.
    pub left_out_bytes: i64,
    /// The flow that moves it now.
    pub flow_id: String,
    /// When it was asked for.
    pub create_time: Timestamp,
    /// Progress of [`SESSION_STAGES`](super::SESSION_STAGES), in that order.
    pub stages: Vec<Stage>,
    /// Revision in the organization.
    pub rev: i64,
    /// Revision in the session.
    pub session_rev: i64,
}

impl Session {
    /// Names the current start of the agent: the runtime accepts each request of one attempt once.
    pub fn attempt(&self, runtime_instance: i64) -> String {
        format!("{}-{}", runtime_instance, self.generation)
    }

    /// Whether its agent waits for an answer of a person.
    pub fn waits_for_person(&self) -> bool {
        self.pending_permission.is_some() || self.pending_elicitation.is_some()
    }

    /// The session once it is closed: nothing waits for an answer any more.
    #[must_use]
    pub fn closed(&self, condition: Condition, last_offset: i64) -> Self {
        Self {
            state: SessionState::Closed,
            condition,
            last_offset,
            pending_permission: None,
            pending_elicitation: None,
            ..self.clone()
        }
    }

    /// As on the wire.
    pub fn to_proto(&self) -> proto::AgentSession {
        proto::AgentSession {
            session_id: self.session_id.to_string(),
            organization_id: self.organization_id.to_string(),
            task_id: self.task_id.clone(),
            sandbox_id: self.sandbox_id.to_string(),
            agent: self.agent.clone(),
            permission_policy: self.permission_policy.into(),
            state: self.state.to_proto().into(),
            stages: self.stages.clone(),
            condition: Some(self.condition.clone()),
            message_id: self.message_id.clone(),
            pending_permission: self.pending_permission.clone(),
            last_offset: self.last_offset,
            turn_count: self.turn_count,
            create_time: Some(self.create_time.to_proto()),
            profile_id: self.profile_id.clone(),
            model_provider_id: self.model_provider_id.clone(),
            options: self.offer.shown(),
            title: self.offer.title.clone(),
            usage: self.offer.shown_usage(),
            pending_elicitation: self.pending_elicitation.clone(),
        }
    }
}
