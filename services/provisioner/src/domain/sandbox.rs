//! A sandbox as recorded in the ledger.

use foundry_core::{OrganizationId, SandboxId, Timestamp};
use foundry_proto::common::v1::{Base, Condition, Stage, WorkNotices};
use foundry_proto::provisioner::v1 as proto;
use foundry_sandbox::{LimitKind, ReachedLimit, RuntimeFacts};

/// How far a sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxState {
    /// Nothing is done yet.
    Queued,
    /// Stage `sandbox_allocated` runs.
    Allocating,
    /// Stage `repo_prepared` runs.
    PreparingRepo,
    /// Stage `agent_installing` runs.
    InstallingAgent,
    /// Stage `agent_starting` or `agent_ready` runs.
    StartingAgent,
    /// Sessions can be created.
    Ready,
    /// The runtime died.
    Vanished,
    /// A stage failed for good.
    Error,
    /// The destroy flow runs.
    Destroying,
    /// Nothing is left at the provider; the row stays.
    Destroyed,
}

impl SandboxState {
    const ALL: [Self; 10] = [
        Self::Queued,
        Self::Allocating,
        Self::PreparingRepo,
        Self::InstallingAgent,
        Self::StartingAgent,
        Self::Ready,
        Self::Vanished,
        Self::Error,
        Self::Destroying,
        Self::Destroyed,
    ];

    /// The stored text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Allocating => "allocating",
            Self::PreparingRepo => "preparing_repo",
            Self::InstallingAgent => "installing_agent",
            Self::StartingAgent => "starting_agent",
            Self::Ready => "ready",
            Self::Vanished => "vanished",
            Self::Error => "error",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
        }
    }

    /// From the stored text; an unknown one (of a newer binary) reads as an error, which starts nothing.
    pub fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|s| s.as_str() == text).unwrap_or(Self::Error)
    }

    /// The state in which a stage runs.
    pub fn of_stage(stage: &str) -> Self {
        match stage {
            "sandbox_allocated" => Self::Allocating,
            "repo_prepared" => Self::PreparingRepo,
            "agent_installing" => Self::InstallingAgent,
            _ => Self::StartingAgent,
        }
    }

    /// Whether it is being destroyed, or has been.
    pub const fn is_ending(self) -> bool {
        matches!(self, Self::Destroying | Self::Destroyed)
    }

    /// As on the wire.
    pub const fn to_proto(self) -> proto::SandboxState {
        match self {
            Self::Queued => proto::SandboxState::Queued,
            Self::Allocating => proto::SandboxState::Allocating,
            Self::PreparingRepo => proto::SandboxState::PreparingRepo,
            Self::InstallingAgent => proto::SandboxState::InstallingAgent,
            Self::StartingAgent => proto::SandboxState::StartingAgent,
            Self::Ready => proto::SandboxState::Ready,
            Self::Vanished => proto::SandboxState::Vanished,
            Self::Error => proto::SandboxState::Error,
            Self::Destroying => proto::SandboxState::Destroying,
            Self::Destroyed => proto::SandboxState::Destroyed,
        }
    }
}

/// A sandbox: one row of the ledger, with its stages.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Its id; also the name under which the provider knows it.
    pub sandbox_id: SandboxId,
    pub organization_id: OrganizationId,
    /// The task it was made for; a task has one living sandbox at most.
    pub task_id: String,
    /// The repository it is cloned from.
    pub repository_id: String,
    /// The provider's name.
    pub provider: String,
    /// How far it is.
    pub state: SandboxState,
    /// Why it is in this state, and what a person can do about it.
    pub condition: Condition,
    /// The agent's branch.
    pub branch: String,
    /// Whether the remote had that branch before the task.
    pub existing_branch: bool,
    /// The branch that `branch` starts from; as requested until the clone has resolved it.
    pub base_branch: String,
    /// The commit that `branch` starts from; empty until the clone has resolved it.
    pub base_commit: String,
    /// The same commit, and how new it was; none until the clone has resolved it.
    pub base: Option<Base>,
    /// The agent installed by default.
    pub agent: String,
    /// The profile it was asked for with; empty when there was none.
    pub profile_id: String,
    /// How it is isolated from the host, for people.
    pub isolation: String,
    /// Its resource limits and how they are enforced, for people.
    pub limits: String,
    /// The limits it has reached.
    pub reached: Vec<ReachedLimit>,
    /// Which network it can reach, for people.
    pub network: String,
    /// Number of its runtime's newest start, from 1; goes on counting in the task's next sandbox.
    pub runtime_instance: i64,
    /// The runtime, once started.
    pub facts: Option<RuntimeFacts>,
    /// The flow that moves it now; only that one may write its state.
    pub flow_id: String,
    /// The user on whose behalf it was made.
    pub user_id: String,
    /// When `EnsureSandbox` recorded it.
    pub create_time: Timestamp,
    /// When it was destroyed.
    pub destroy_time: Option<Timestamp>,
    /// When the newest hand-over of its work began.
    pub work_time: Timestamp,
    /// The head of the newest work that repo has taken over.
    pub work_head: String,
    /// When the newest hand-over began whose work was sent; the later ones found the same.
    pub work_sent_time: Timestamp,
    /// The notices that were sent with it.
    pub work_notices: WorkNotices,
    /// Why newer work is not saved; empty when it is.
    pub work_not_saved: Condition,
    /// Progress of [`SANDBOX_STAGES`](super::SANDBOX_STAGES), in that order.
    pub stages: Vec<Stage>,
    /// Revision in the organization.
    pub rev: i64,
}

impl Sandbox {
    /// As on the wire.
    pub fn to_proto(&self) -> proto::Sandbox {
        proto::Sandbox {
            sandbox_id: self.sandbox_id.to_string(),
            organization_id: self.organization_id.to_string(),
            task_id: self.task_id.clone(),
            repository_id: self.repository_id.clone(),
            provider: self.provider.clone(),
            state: self.state.to_proto().into(),
            stages: self.stages.clone(),
            condition: Some(self.condition.clone()),
            branch: self.branch.clone(),
            base_branch: self.base_branch.clone(),
            base_commit: self.base_commit.clone(),
            base: self.base.clone(),
            agent: self.agent.clone(),
            isolation: self.isolation.clone(),
            runtime_instance: self.runtime_instance,
            create_time: Some(self.create_time.to_proto()),
            destroy_time: self.destroy_time.map(Timestamp::to_proto),
            profile_id: self.profile_id.clone(),
            limits: self.limits.clone(),
            reached_limits: self
                .reached
                .iter()
                .filter(|_| !self.state.is_ending())
                .map(reached_condition)
                .collect(),
            network: self.network.clone(),
            work_time: Some(self.work_time).filter(|t| *t != Timestamp::default()).map(Timestamp::to_proto),
            work_sent_time: Some(self.work_sent_time)
                .filter(|t| *t != Timestamp::default())
                .map(Timestamp::to_proto),
            work_not_saved: Some(self.work_not_saved.clone()).filter(|c| !c.reason.is_empty()),
        }
    }
}

/// A reached limit as a condition.
pub fn reached_condition(reached: &ReachedLimit) -> Condition {
    let ReachedLimit { kind, used, limit, since, ended } = reached;
    let (used, limit) = (kind.amount(*used), kind.amount(*limit));
    let (what, setting, help) = match kind {
        LimitKind::Processes => {
            let ended =
                if *ended { "; its running processes were terminated" } else { "; new ones are refused" };
            (
                format!("the sandbox has reached its limit of {limit}{ended}"),
                "processes",
                "run fewer processes in parallel",
            )
        }
        LimitKind::Memory => (
            format!("the sandbox has reached its limit of {limit}; the largest process was killed"),
            "memory_bytes",
            "use less memory, for example by running fewer jobs in parallel",
        ),
        LimitKind::DiskBytes | LimitKind::DiskFiles => {
            let ended =
                if *ended { "; its running processes were terminated, and all files are kept" } else { "" };
            let setting = if *kind == LimitKind::DiskBytes { "disk_bytes" } else { "disk_files" };
            let text = format!("the sandbox uses {used}; its limit is {limit}{ended}");
            (text, setting, "delete files it does not need")
        }
    };
    Condition {
        reason: kind.reason().to_owned(),
        message: what,
        since_time: Some(since.to_proto()),
        next_action: format!("ask the agent to {help}, or raise provisioner.local.limits.{setting}"),
        ..Condition::default()
    }
}

/// Whether a condition reports a reached limit of the sandbox.
pub fn says_limit(condition: &Condition) -> bool {
    [LimitKind::Processes, LimitKind::Memory, LimitKind::DiskBytes]
        .iter()
        .any(|k| k.reason() == condition.reason)
}

/// What a person can do about a failure of this class.
pub fn class_advice(class: &str) -> Option<&'static str> {
    match class {
        "capacity" => Some("free up space on the host, or destroy sandboxes you no longer need; then retry"),
        "image" => Some("check the installed tools (npm, git); then retry"),
        "configuration" => Some("fix the configuration named in the message; then retry"),
        "credentials" => {
            Some("configure the credentials named in the message, or choose another agent; then retry")
        }
        "provider" => Some("check the provider's log; then retry"),
        "timeout" => Some("check whether the provider is slow or hangs; then retry"),
        _ => None,
    }
}
