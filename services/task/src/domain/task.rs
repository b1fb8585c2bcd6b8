//! A task: the stored facts from which its state is derived.

use foundry_core::{Error, FlowId, OrganizationId, RepositoryId, Result, SessionId, TaskId, Timestamp};
use foundry_flow::Status;
use foundry_proto::common::v1::Condition;
use foundry_proto::task::v1 as pb;

use super::asked::Start;
use super::validate::{PREVIEW, prefix};

/// What people decided about the life of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// Can be worked on.
    Active,
    /// Archiving was requested; its sandbox is being destroyed.
    Archiving,
    /// The archiving is complete.
    Archived,
    /// Killing was requested; its sandbox is being destroyed.
    Killing,
    /// The kill is complete.
    Killed,
}

impl Lifecycle {
    /// The stored text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Archiving => "archiving",
            Self::Archived => "archived",
            Self::Killing => "killing",
            Self::Killed => "killed",
        }
    }

    /// From the stored text.
    ///
    /// # Errors
    /// `INTERNAL` for a text that no version wrote.
    pub fn parse(text: &str) -> Result<Self> {
        [Self::Active, Self::Archiving, Self::Archived, Self::Killing, Self::Killed]
            .into_iter()
            .find(|l| l.as_str() == text)
            .ok_or_else(|| Error::internal(format!("no lifecycle {text}")))
    }

    /// Whether it has ended; lists leave out ended tasks.
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Archived | Self::Killed)
    }

    /// The final state of an end that is in progress.
    #[must_use]
    pub const fn ended(self) -> Self {
        match self {
            Self::Archiving | Self::Archived => Self::Archived,
            _ => Self::Killed,
        }
    }

    /// What it becomes when this end, `Archiving` or `Killing`, is requested; none when it is killed or about to be.
    pub const fn towards(self, end: Self) -> Option<Self> {
        match self {
            Self::Active | Self::Archiving => Some(end),
            Self::Archived => Some(end.ended()),
            Self::Killing | Self::Killed => None,
        }
    }
}

/// The last projected state of one of this service's flows.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowFacts {
    pub flow_id: FlowId,
    /// Name of the stage that it is in.
    pub stage: String,
    /// Status as the engine writes it; empty before the first run.
    pub status: String,
    /// Why it is in this state.
    pub condition: Condition,
}

impl FlowFacts {
    /// A flow that has not begun.
    pub fn fresh(flow_id: FlowId) -> Self {
        Self { flow_id, stage: String::new(), status: String::new(), condition: Condition::default() }
    }

    /// A flow that is to begin by looking for the branch of its task.
    pub fn pending_branch(flow_id: FlowId) -> Self {
        Self { stage: PENDING_BRANCH.to_owned(), ..Self::fresh(flow_id) }
    }

    /// Whether it looks for the branch of its task, or failed to find it.
    pub fn seeks_branch(&self) -> bool {
        self.stage == PENDING_BRANCH
    }

    /// Whether it has failed and can be retried.
    pub fn failed(&self) -> bool {
        self.status == Status::Failed.as_str()
    }

    /// Whether it waits for its next attempt after a failed one.
    pub fn between_attempts(&self) -> bool {
        self.status == Status::Ready.as_str() && self.condition.next_attempt_time.is_some()
    }

    /// A retry of the failed stage was requested: until the engine projects the next attempt, it waits for a worker.
    pub fn retried(&mut self, now: Timestamp) {
        Status::Ready.as_str().clone_into(&mut self.status);
        self.condition = Condition {
            waiting_on: self.stage.clone(),
            since_time: Some(now.to_proto()),
            ..Condition::default()
        };
    }
}

/// A task's own row, without its sessions, sandbox, work and messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub task_id: TaskId,
    pub organization_id: OrganizationId,
    pub repository_id: RepositoryId,
    /// The session it was created with.
    pub first_session_id: SessionId,
    /// When it was created.
    pub create_time: Timestamp,
    /// Revision of its view in the organization's scope.
    pub rev: i64,
    /// A random number that each write to the aggregate replaces. A write fails if it is not the one read before.
    pub fence: i64,
    /// Whether a flow has changed something that the view does not show yet.
    pub stale: bool,
    pub lifecycle: Lifecycle,
    /// When `lifecycle` last changed.
    pub lifecycle_time: Timestamp,
    /// State of its provisioning flow.
    pub flow: FlowFacts,
    /// Id of the sandbox whose destruction was requested last; empty = none.
    pub destroy_sent: String,
    /// Upstream revision of the failed sandbox that a person asked to retry; 0 = none.
    pub retry_rev: i64,
    /// Whether the transcripts of its sessions are deleted, or being deleted.
    pub transcript_deleted: bool,
    /// The rule about failures at its pull request, with what was sent; empty if it was never switched on.
    pub auto_fix: pb::AutoFixRecord,
    /// The view that callers see: the names and texts in it are facts, the rest is derived.
    pub view: pb::Task,
    /// Whether the stored view cannot be decoded. `view` then stands for it and is never written.
    pub damaged: bool,
}

impl Task {
    /// The agent to request from the provisioner: empty with a profile, which determines it.
    pub fn asked_agent(&self) -> String {
        if self.view.profile.is_empty() { self.view.agent.clone() } else { String::new() }
    }

    /// Refuses an operation that needs an active task.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` `TASK_ARCHIVED` or `TASK_KILLED`.
    pub fn require_active(&self) -> Result<()> {
        let (reason, text) = match self.lifecycle {
            Lifecycle::Active => return Ok(()),
            Lifecycle::Archiving | Lifecycle::Archived => ("TASK_ARCHIVED", "the task is archived"),
            Lifecycle::Killing | Lifecycle::Killed => ("TASK_KILLED", "the task is killed"),
        };
        Err(Error::precondition(reason, self.task_id.as_str(), text)
            .next_action("create a new task; the transcript and work of this one stay readable"))
    }
}

/// The agent that a session is to have, validated.
#[derive(Clone, Debug)]
pub struct AgentChoice {
    /// The agent's name; empty when the profile or the provisioner determines it.
    pub agent: String,
    /// Id or name of the profile; empty without one.
    pub profile: String,
    /// The permission policy, as on the wire; unspecified means the one of the profile, or ASK.
    pub policy: i32,
    /// Settings that override the profile.
    pub start: Start,
}

/// The stage of a task's flow that looks for its branch at the remote.
pub const PENDING_BRANCH: &str = "pending_branch";

/// What a task is created from, validated.
#[derive(Clone, Debug)]
pub struct TaskSpec<'a> {
    pub organization_id: OrganizationId,
    pub repository_id: RepositoryId,
    pub title: String,
    /// The text of the first message.
    pub prompt: &'a str,
    /// The branch that the task starts from.
    pub base_branch: String,
    /// Whether that is the repository's default branch because the request named none.
    pub follows_default_branch: bool,
    /// Whether the task works on a branch of the remote, which then is its base as well.
    pub existing_branch: bool,
    /// Name of the sandbox provider.
    pub provider: String,
    /// The agent of the task and of its first session.
    pub choice: AgentChoice,
    /// Id of the user who creates it; empty when no user is behind the call.
    pub created_by: String,
}

impl Task {
    /// A task that has not begun: this flow is to provision it. `fence` is a random number.
    pub fn new(
        task_id: TaskId,
        first_session_id: SessionId,
        flow: FlowFacts,
        spec: &TaskSpec<'_>,
        branch: &str,
        fence: i64,
        now: Timestamp,
    ) -> Self {
        let view = pb::Task {
            task_id: task_id.to_string(),
            organization_id: spec.organization_id.to_string(),
            repository_id: spec.repository_id.to_string(),
            title: spec.title.clone(),
            branch: branch.to_owned(),
            base_branch: spec.base_branch.clone(),
            follows_default_branch: spec.follows_default_branch,
            existing_branch: spec.existing_branch,
            prompt_preview: prefix(spec.prompt, PREVIEW).to_owned(),
            prompt_size: i64::try_from(spec.prompt.len()).unwrap_or(i64::MAX),
            agent: spec.choice.agent.clone(),
            profile: spec.choice.profile.clone(),
            provider: spec.provider.clone(),
            permission_policy: spec.choice.policy,
            created_by: spec.created_by.clone(),
            create_time: Some(now.to_proto()),
            ..pb::Task::default()
        };
        Self {
            task_id,
            organization_id: spec.organization_id.clone(),
            repository_id: spec.repository_id.clone(),
            first_session_id,
            create_time: now,
            rev: 0,
            fence,
            stale: false,
            lifecycle: Lifecycle::Active,
            lifecycle_time: now,
            flow,
            destroy_sent: String::new(),
            retry_rev: 0,
            transcript_deleted: false,
            auto_fix: pb::AutoFixRecord::default(),
            view,
            damaged: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lifecycle::{Active, Archived, Archiving, Killed, Killing};

    #[test]
    fn a_kill_overrides_an_archival_and_nothing_overrides_a_kill() {
        let ends = [
            (Active, Some(Archiving), Some(Killing)),
            (Archiving, Some(Archiving), Some(Killing)),
            (Archived, Some(Archived), Some(Killed)),
            (Killing, None, None),
            (Killed, None, None),
        ];
        for (from, archiving, killing) in ends {
            assert_eq!(from.towards(Archiving), archiving, "{from:?}");
            assert_eq!(from.towards(Killing), killing, "{from:?}");
        }
    }
}
