//! A repository and the state of its mirror.

use std::time::Duration;

use foundry_core::{Error, OrganizationId, RepositoryId, Result, Timestamp};
use foundry_proto::common::v1::Condition;
use foundry_proto::repo::v1;

use super::pull_request::PullFacts;
use super::sync::{self, SyncFacts};

/// State of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Registered; no mirror yet.
    Pending,
    /// Mirrored, and no synchronization is running.
    Ready,
    /// Mirrored, and being synchronized.
    Syncing,
    /// The last synchronization failed.
    Error,
    /// Deletion was requested; mirror and rows are being removed.
    Deleting,
}

impl State {
    const ALL: [(Self, &'static str, v1::RepositoryState); 5] = [
        (Self::Pending, "pending", v1::RepositoryState::Pending),
        (Self::Ready, "ready", v1::RepositoryState::Ready),
        (Self::Syncing, "syncing", v1::RepositoryState::Syncing),
        (Self::Error, "error", v1::RepositoryState::Error),
        (Self::Deleting, "deleting", v1::RepositoryState::Deleting),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(s, ..)| *s == self).map_or("", |(_, text, _)| text)
    }

    /// Parses the stored text; an unknown one, from a newer binary, counts as an error state.
    pub fn parse(text: &str) -> Self {
        Self::ALL.iter().find(|(_, t, _)| *t == text).map_or(Self::Error, |(s, ..)| *s)
    }

    fn to_proto(self) -> v1::RepositoryState {
        Self::ALL.iter().find(|(s, ..)| *s == self).map_or(v1::RepositoryState::Unspecified, |(.., p)| *p)
    }
}

/// A registered repository.
#[derive(Clone, Debug)]
pub struct Repository {
    pub repository_id: RepositoryId,
    pub organization_id: OrganizationId,
    /// Revision of its last change.
    pub rev: i64,
    /// Name as given, unique in the organization.
    pub name: String,
    /// The remote it is mirrored from.
    pub url: String,
    /// State of the mirror.
    pub state: State,
    /// Why it is in this state.
    pub condition: Condition,
    /// Branch that tasks start from; empty until mirrored.
    pub default_branch: String,
    /// Number of branches in the mirror.
    pub branch_count: i64,
    /// When the mirror was last synchronized; none before the first time.
    pub sync_time: Option<Timestamp>,
    /// When a synchronization last found other branches; the epoch where that is not known.
    pub branches_time: Timestamp,
    /// When it was registered.
    pub create_time: Timestamp,
    /// Whether another synchronization must follow the running one.
    pub refresh_wanted: bool,
    /// When the remote was listed for the last successful synchronization; the epoch before the first one.
    pub listed_time: Timestamp,
    /// Digest of what the remote listed then.
    pub listing: String,
    /// The commit on which work starts while the repository has no branch; empty if it has one, or is not mirrored.
    pub empty_commit: String,
    /// What is recorded about its synchronizations.
    pub sync: SyncFacts,
    /// How much of its overview is computed.
    pub overview: OverviewFacts,
    /// What is recorded about reading its pull requests.
    pub pulls: PullFacts,
}

/// How much of the overview of a repository is computed.
#[derive(Clone, Debug, Default)]
pub struct OverviewFacts {
    /// The flow that computes it; empty = none.
    pub owner: String,
    /// Branches that are as last planned.
    pub done: i64,
    /// Branches that it has when it is complete.
    pub total: i64,
    /// When it was last complete; the epoch before that.
    pub complete: Timestamp,
    /// What it leaves out: reason and text, both empty for nothing.
    pub left_out: (String, String),
}

impl OverviewFacts {
    /// The reason of a run that ended well, with branches beyond the limit.
    pub const fn reason_left_out() -> &'static str {
        "BRANCHES_LEFT_OUT"
    }

    /// The reason of a run that ended well, with branches that took too long to compare.
    pub const fn reason_not_compared() -> &'static str {
        "BRANCHES_NOT_COMPARED"
    }

    /// Whether the last run failed.
    pub fn has_failed(&self) -> bool {
        let well = ["", Self::reason_left_out(), Self::reason_not_compared()];
        self.owner.is_empty() && !well.contains(&self.left_out.0.as_str())
    }

    fn to_proto(&self) -> v1::OverviewProgress {
        let (reason, message) = self.left_out.clone();
        let left_out = Condition { reason, message, ..Condition::default() };
        v1::OverviewProgress {
            computing: !self.owner.is_empty(),
            done: i32::try_from(self.done).unwrap_or(i32::MAX),
            total: i32::try_from(self.total).unwrap_or(i32::MAX),
            complete_time: (self.complete.as_micros() > 0).then(|| self.complete.to_proto()),
            left_out: (!left_out.reason.is_empty()).then_some(left_out),
        }
    }
}

impl Repository {
    /// Whether there is a mirror to read.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` before the first synchronization, and during the deletion.
    pub fn require_mirror(&self) -> Result<()> {
        let id = self.repository_id.as_str();
        if self.state == State::Deleting {
            return Err(Error::precondition("REPOSITORY_DELETING", id, "the repository is being deleted"));
        }
        if self.sync_time.is_some() {
            return Ok(());
        }
        let why = match self.condition.message.as_str() {
            "" => "it is being mirrored",
            why => why,
        };
        let text = format!("the repository has no mirror yet: {why}");
        Err(Error::precondition("REPOSITORY_NOT_READY", id, text).retry_after(Duration::from_secs(1)))
    }

    /// The wire form.
    pub fn to_proto(&self) -> v1::Repository {
        v1::Repository {
            repository_id: self.repository_id.to_string(),
            organization_id: self.organization_id.to_string(),
            name: self.name.clone(),
            url: self.url.clone(),
            state: self.state.to_proto().into(),
            condition: Some(self.condition.clone()),
            default_branch: self.default_branch.clone(),
            branch_count: i32::try_from(self.branch_count).unwrap_or(i32::MAX),
            sync_time: self.sync_time.map(Timestamp::to_proto),
            create_time: Some(self.create_time.to_proto()),
            branch_sync: Some(sync::branch_sync(self)),
            overview: Some(self.overview.to_proto()),
            branches_time: (self.branches_time.as_micros() > 0).then(|| self.branches_time.to_proto()),
            pull_request_sync: self.pulls.sync.clone(),
        }
    }
}
