//! What a task has produced so far.

use foundry_core::{OrganizationId, RepositoryId, Result, TaskId, Timestamp};
use foundry_git::CommitId;
use foundry_proto::common::v1::{Condition, MergedFrom, Publication, WorkNotice};
use foundry_proto::repo::v1;

/// State of the newest import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A bundle was received and is being imported.
    Importing,
    /// The newest bundle is imported, or there was nothing to import.
    Ready,
    /// The newest bundle was refused; an older version may still be readable.
    Error,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Importing => "importing",
            Self::Ready => "ready",
            Self::Error => "error",
        }
    }

    /// Parses the stored text; an unknown one, from a newer binary, counts as an error state.
    pub fn parse(text: &str) -> Self {
        match text {
            "importing" => Self::Importing,
            "ready" => Self::Ready,
            _ => Self::Error,
        }
    }

    fn to_proto(self) -> v1::WorkState {
        match self {
            Self::Importing => v1::WorkState::Importing,
            Self::Ready => v1::WorkState::Ready,
            Self::Error => v1::WorkState::Error,
        }
    }
}

/// What a task has changed in its repository.
#[derive(Clone, Debug)]
pub struct Work {
    pub task_id: TaskId,
    pub organization_id: OrganizationId,
    pub repository_id: RepositoryId,
    /// Revision of its last change.
    pub rev: i64,
    /// The branch of the task; empty when it was imported before this was recorded.
    pub branch: String,
    /// State of the newest import.
    pub state: State,
    /// Why it is in this state.
    pub condition: Condition,
    /// The commit that the work started from.
    pub base_commit: String,
    /// The commit that holds the readable work; empty before the first import.
    pub head_commit: String,
    /// Number of the readable import; 0 = none yet.
    pub version: i64,
    /// Number of the newest received bundle.
    pub received: i64,
    /// Number of changed files in the readable version.
    pub files_changed: i64,
    /// Lines added in the readable version.
    pub additions: i64,
    /// Lines removed in the readable version.
    pub deletions: i64,
    /// When the readable version was imported; none before the first import.
    pub import_time: Option<Timestamp>,
    /// What the newest received hand-over left out.
    pub notices: Vec<WorkNotice>,
    /// When it began, by the clock of the provisioner.
    pub hand_over_time: Option<Timestamp>,
    /// What the readable version has merged from other branches.
    pub merged_from: Vec<MergedFrom>,
    /// Where it was last published.
    pub publication: Option<Publication>,
    /// Whether the remote had the branch before the task.
    pub existing_branch: bool,
}

/// Where the work of a task stands.
#[derive(Clone, Debug)]
pub struct TaskWork {
    pub task_id: String,
    /// Its branch; empty when it was imported before that was recorded.
    pub branch: String,
    /// The branch of the remote to which it was last published; empty = none.
    pub published_to: String,
    /// The commit that it started from.
    pub base: String,
    /// The commit that holds it.
    pub head: String,
    /// Whether the remote had the branch before the task.
    pub existing_branch: bool,
    /// Whether no file of it has changed.
    pub is_empty: bool,
}

/// Bounds the notices of a caller: more than these do not fit on a watch.
pub fn bounded(notices: Vec<WorkNotice>) -> Vec<WorkNotice> {
    let mut left = foundry_git::MAX_NOTICE_BYTES;
    let fits = move |n: &WorkNotice| {
        let size = n.path.len() + n.branch.len() + n.detail.len();
        let fits = size <= left;
        left -= if fits { size } else { 0 };
        fits
    };
    notices.into_iter().take(foundry_git::MAX_NOTICES).filter(fits).collect()
}

impl Work {
    /// The commit whose tree callers read: that of the work, or the one it started from.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the row has no commit.
    pub fn readable_commit(&self) -> Result<CommitId> {
        let commit = if self.head_commit.is_empty() { &self.base_commit } else { &self.head_commit };
        Ok(CommitId::parse(commit)?)
    }

    /// Whether this is the branch of the remote that the task was created to work on.
    pub fn works_on(&self, branch: &str) -> bool {
        self.existing_branch && self.branch == branch
    }

    /// Whether the readable version differs from what the work started from.
    pub fn has_changes(&self) -> bool {
        !self.head_commit.is_empty() && self.head_commit != self.base_commit
    }

    /// As callers see it.
    pub fn to_proto(&self) -> v1::Work {
        v1::Work {
            task_id: self.task_id.to_string(),
            organization_id: self.organization_id.to_string(),
            repository_id: self.repository_id.to_string(),
            state: self.state.to_proto().into(),
            condition: Some(self.condition.clone()),
            base_commit: self.base_commit.clone(),
            head_commit: self.head_commit.clone(),
            version: self.version,
            files_changed: i32::try_from(self.files_changed).unwrap_or(i32::MAX),
            additions: self.additions,
            deletions: self.deletions,
            import_time: self.import_time.map(Timestamp::to_proto),
            notices: self.notices.clone(),
            hand_over_time: self.hand_over_time.map(Timestamp::to_proto),
            merged_from: self.merged_from.clone(),
            publication: self.publication.clone(),
        }
    }
}
