//! The facts of a flow as its owner, a projection or an operator sees them.

use foundry_core::{FlowId, OrganizationId, Timestamp};

/// The state of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Due now or at its due time; no worker holds it.
    Ready,
    /// A worker holds its lease.
    Running,
    /// Waits for a signal or a deadline; holds no lease.
    Waiting,
    /// Its kind or stage is unknown to the workers that are running.
    Parked,
    /// All stages complete.
    Done,
    /// Ended by a failure; can be retried.
    Failed,
    /// Ended by a cancel.
    Cancelled,
}

impl Status {
    /// The stored text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// From the stored text; an unknown text reads as parked, in which no worker runs the flow.
    pub(crate) fn parse(text: &str) -> Self {
        [Self::Ready, Self::Running, Self::Waiting, Self::Done, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|s| s.as_str() == text)
            .unwrap_or(Self::Parked)
    }

    /// Whether the flow has ended.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// Why an attempt runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Woken {
    /// First attempt of the stage, or re-armed by a retry command.
    Start,
    /// The awaited key was signalled.
    Signal,
    /// The wait's deadline passed without a signal.
    Deadline,
    /// The previous attempt failed.
    Retry,
    /// The previous attempt was interrupted: its worker died, stopped or lost the lease.
    Recovered,
}

impl Woken {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal => "signal",
            Self::Deadline => "deadline",
            Self::Retry => "retry",
            Self::Recovered => "recovered",
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        [Self::Signal, Self::Deadline, Self::Retry, Self::Recovered]
            .into_iter()
            .find(|w| w.as_str() == text)
            .unwrap_or(Self::Start)
    }
}

/// What was just persisted, as passed to [`crate::Projection::project`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transition {
    /// An attempt of the stage begins.
    Started,
    /// A stage completed (`completed_stage`) and the next one begins.
    Advanced,
    /// The running attempt reported its progress.
    Progressed,
    /// The flow waits for its key.
    Waiting,
    /// The attempt failed and will be repeated at the due time.
    Retrying,
    /// A stopping worker gave the attempt back; it does not count.
    Released,
    /// No running worker knows the stage.
    Parked,
    /// All stages complete.
    Done,
    /// Ended by a failure.
    Failed,
    /// Ended by a cancel.
    Cancelled,
}

/// A snapshot of a flow, with the reason for its state.
#[derive(Clone, Debug)]
pub struct FlowStatus {
    /// The flow's id.
    pub flow_id: FlowId,
    /// The kind, as in [`Flow::kind`](crate::Flow::kind).
    pub kind: String,
    /// Its key, unique among the unfinished flows of its kind.
    pub key: String,
    /// Tenant it acts for, if any.
    pub organization_id: Option<OrganizationId>,
    /// Id of the entity it works on.
    pub subject_id: String,
    /// The user it acts for, as data for the audit; empty when there is none.
    pub user_id: String,
    /// W3C trace context of the request that started it.
    pub traceparent: String,
    /// The input, JSON.
    pub input: serde_json::Value,
    /// The state handed from stage to stage, JSON.
    pub state: serde_json::Value,
    /// The state it is in.
    pub status: Status,
    /// What was just persisted; `None` when read from the table.
    pub transition: Option<Transition>,
    /// The current stage; the failed one after a failure.
    pub stage: String,
    /// The stage that this transition completed.
    pub completed_stage: Option<String>,
    /// Which attempt of the stage this is, from 1; counts interrupted ones, not released ones.
    pub attempt: u32,
    /// How many attempts of the stage failed; bounded by the stage's budget.
    pub failures: u32,
    /// Fencing number of the lease.
    pub epoch: i64,
    /// When the flow was enqueued.
    pub started_time: Timestamp,
    /// When the current stage began.
    pub stage_started_time: Timestamp,
    /// When `status` last changed: since when it waits, runs, or has ended.
    pub status_time: Timestamp,
    /// When it last made progress.
    pub last_progress_time: Timestamp,
    /// The text reported then.
    pub last_progress: String,
    /// When the running attempt times out, or the wait ends without a signal.
    pub deadline: Option<Timestamp>,
    /// When a ready flow is due: the time of its next attempt.
    pub due_time: Option<Timestamp>,
    /// The key that a waiting flow waits for.
    pub wait_key: Option<String>,
    /// The kind of the last failure, as the stage named it; `timeout` when the attempt took too long. Empty when the
    /// stage named none, and for a wait.
    pub class: String,
    /// Stable reason of the last failure or wait; the terminal one at the end.
    pub reason: String,
    /// The last failure or wait as a text for users.
    pub message: String,
    /// A cancel was requested.
    pub cancel_requested: bool,
    /// When it ended.
    pub finished_time: Option<Timestamp>,
}

impl FlowStatus {
    /// Whether [`crate::retry`] may re-arm it.
    pub fn retryable(&self) -> bool {
        self.status == Status::Failed
    }

    /// The text shown to users: the message with its class, or the last progress of a running attempt.
    pub fn text(&self) -> String {
        match (self.class.as_str(), self.message.as_str()) {
            (_, "") => self.last_progress.clone(),
            ("", message) => message.to_owned(),
            (class, message) => format!("{class}: {message}"),
        }
    }

    /// What happens next, or what a user can do.
    pub fn next_action(&self) -> String {
        match self.status {
            Status::Ready if self.failures > 0 => "none needed: it is retried at the time shown".to_owned(),
            Status::Ready => "none needed: it starts when a worker is free".to_owned(),
            Status::Running => "none needed".to_owned(),
            Status::Waiting => {
                format!(
                    "none needed: it continues when {} is signalled",
                    self.wait_key.as_deref().unwrap_or("")
                )
            }
            Status::Parked => format!("start a worker that implements the stage {}", self.stage),
            Status::Failed => format!("retry: it continues at the stage {}", self.stage),
            Status::Done | Status::Cancelled => String::new(),
        }
    }
}
