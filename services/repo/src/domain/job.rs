//! An action on branches of a repository's remote.

use std::collections::BTreeSet;

use foundry_core::{Error, FlowId, JobId, OrganizationId, RepositoryId, Result, TaskId, Timestamp};
use foundry_git::{BranchName, CommitId};
use foundry_proto::common::v1::Condition;
use foundry_proto::repo::v1::{
    self, ActionSettings, JobBranch, JobBranchCount, JobBranchState, PublishBranchRequest, PublishSettings,
    RunRepositoryActionRequest,
};
use prost::Message as _;

/// Longest message of a commit in bytes.
const MAX_MESSAGE: usize = 4 << 10;
/// Longest name of an author or agent in characters.
const MAX_NAME: usize = 100;
/// Most bytes of branches in a job on a watch.
const MAX_SHOWN: usize = 8 << 10;
/// Longest e-mail address in bytes.
const MAX_EMAIL: usize = 254;

/// State of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for an earlier job on the branch, or for a worker.
    Queued,
    /// Running, or waiting for its next attempt.
    Running,
    /// All that was planned is done.
    Done,
    /// Ended without its effect.
    Failed,
    /// Cancelled by a user.
    Cancelled,
}

impl State {
    const ALL: [(Self, &'static str, v1::JobState); 5] = [
        (Self::Queued, "queued", v1::JobState::Queued),
        (Self::Running, "running", v1::JobState::Running),
        (Self::Done, "done", v1::JobState::Done),
        (Self::Failed, "failed", v1::JobState::Failed),
        (Self::Cancelled, "cancelled", v1::JobState::Cancelled),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(s, ..)| *s == self).map_or("", |(_, text, _)| text)
    }

    /// Parses the stored text; an unknown one, from a newer binary, counts as running.
    pub fn parse(text: &str) -> Self {
        Self::ALL.iter().find(|(_, t, _)| *t == text).map_or(Self::Running, |(s, ..)| *s)
    }

    /// Whether the job has ended.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    fn to_proto(self) -> v1::JobState {
        Self::ALL.iter().find(|(s, ..)| *s == self).map_or(v1::JobState::Unspecified, |(.., p)| *p)
    }
}

/// What a job does, with what was requested.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Pushes the work of a task to a branch, and opens its pull request if that was requested.
    Publish(PublishSettings),
    /// Does something to branches as they are at the remote.
    Action(Action, ActionSettings),
    /// Of a newer binary, by its name.
    Unknown(String),
}

/// What is done to branches of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Synchronizes the mirror.
    SyncRepo,
    /// Brings all branches onto their parents.
    RestackRepo,
    /// Brings a branch and those above it onto their parents.
    RestackSubtree,
    /// Brings one branch onto its parent.
    RebaseBranch,
    /// Gives a branch another parent.
    ReparentBranch,
    /// Makes a branch of the remote known.
    RegisterExistingBranch,
    /// Brings the branches of another job back.
    Undo,
}

impl Action {
    const ALL: [(Self, &'static str, v1::JobKind); 7] = [
        (Self::SyncRepo, "sync_repo", v1::JobKind::SyncRepo),
        (Self::RestackRepo, "restack_repo", v1::JobKind::RestackRepo),
        (Self::RestackSubtree, "restack_subtree", v1::JobKind::RestackSubtree),
        (Self::RebaseBranch, "rebase_branch", v1::JobKind::RebaseBranch),
        (Self::ReparentBranch, "reparent_branch", v1::JobKind::ReparentBranch),
        (Self::RegisterExistingBranch, "register_existing_branch", v1::JobKind::RegisterExistingBranch),
        (Self::Undo, "undo", v1::JobKind::Undo),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(a, ..)| *a == self).map_or("", |(_, text, _)| text)
    }

    /// Parses the stored text; none for one of a newer binary.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, t, _)| *t == text).map(|(a, ..)| *a)
    }

    /// Whether it changes branches of stacks, as far as the overview shows these when it is requested.
    pub fn is_of_stacks(self) -> bool {
        !matches!(self, Self::SyncRepo | Self::RegisterExistingBranch | Self::Undo)
    }

    fn to_proto(self) -> v1::JobKind {
        Self::ALL.iter().find(|(a, ..)| *a == self).map_or(v1::JobKind::Unspecified, |(.., p)| *p)
    }
}

/// Name of [`Kind::Publish`], as it is stored.
pub const PUBLISH_BRANCH: &str = "publish_branch";

impl Kind {
    /// Its name, as it is stored.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Publish(_) => PUBLISH_BRANCH,
            Self::Action(action, _) => action.as_str(),
            Self::Unknown(name) => name,
        }
    }

    /// Whether it may change branches of the remote.
    pub fn changes_branches(&self) -> bool {
        !matches!(self, Self::Action(Action::SyncRepo | Action::RegisterExistingBranch, _))
    }

    fn to_proto(&self) -> v1::JobKind {
        match self {
            Self::Publish(publish) if publish.pull_request.is_some() => v1::JobKind::PublishPullRequest,
            Self::Publish(_) => v1::JobKind::PublishBranch,
            Self::Action(action, _) => action.to_proto(),
            Self::Unknown(_) => v1::JobKind::Unspecified,
        }
    }
}

/// A job. What it does decides its kind, and which flow performs it.
#[derive(Clone, Debug)]
pub struct Job {
    pub job_id: JobId,
    pub organization_id: OrganizationId,
    pub repository_id: RepositoryId,
    /// The task whose work is concerned; none for kinds that are not about one.
    pub task_id: Option<TaskId>,
    /// The flow that performs it.
    pub flow_id: FlowId,
    /// Revision of its last change.
    pub rev: i64,
    /// Revision of its creation, by which jobs on one branch are ordered.
    pub created_rev: i64,
    pub state: State,
    /// Why it is in this state.
    pub condition: Condition,
    /// The branches with their plans and results.
    pub branches: Vec<JobBranch>,
    /// Digest of the refs that they were planned from; empty = they were not, or by an older version.
    pub planned_from: String,
    /// What it does, with what was requested.
    pub kind: Kind,
    /// Who requested it.
    pub created_by: String,
    pub create_time: Timestamp,
    pub end_time: Option<Timestamp>,
}

/// Whether the remote has the new commit of a branch, or may have it.
pub fn may_have_pushed(branch: &JobBranch) -> bool {
    matches!(branch.state(), JobBranchState::Pushed | JobBranchState::Pushing)
}

impl Job {
    /// Its task, as callers see it: empty = none.
    pub fn task(&self) -> &str {
        self.task_id.as_ref().map_or("", TaskId::as_str)
    }

    /// The first branch, by which jobs of one branch are listed and counted; empty = none yet.
    pub fn first_branch(&self) -> &str {
        self.branches.first().map_or("", |b| b.branch.as_str())
    }

    /// The job with all its branches, for a caller that asks for this one.
    pub fn to_whole_proto(&self) -> v1::Job {
        let mut counts: Vec<JobBranchCount> = Vec::new();
        for branch in &self.branches {
            match counts.iter_mut().find(|c| c.state == branch.state) {
                Some(found) => found.count += 1,
                None => counts.push(JobBranchCount { state: branch.state, count: 1 }),
            }
        }
        v1::Job {
            job_id: self.job_id.to_string(),
            organization_id: self.organization_id.to_string(),
            repository_id: self.repository_id.to_string(),
            task_id: self.task().to_owned(),
            kind: self.kind.to_proto().into(),
            state: self.state.to_proto().into(),
            condition: Some(self.condition.clone()),
            branches: self.branches.clone(),
            branch_count: i32::try_from(self.branches.len()).unwrap_or(i32::MAX),
            branch_counts: counts,
            publish: match &self.kind {
                Kind::Publish(settings) => Some(settings.clone()),
                _ => None,
            },
            action: match &self.kind {
                Kind::Action(_, settings) => Some(settings.clone()),
                _ => None,
            },
            created_by: self.created_by.clone(),
            create_time: Some(self.create_time.to_proto()),
            end_time: self.end_time.map(Timestamp::to_proto),
        }
    }

    /// As watches and lists show it, with as many of its branches as fit there.
    pub fn to_proto(&self) -> v1::Job {
        let whole = self.to_whole_proto();
        v1::Job { branches: shown(&whole.branches), ..whole }
    }
}

/// The branches of a job that fit on a watch, in their order: those that failed, then what these stand on, which decides what
/// can be done about them, then the first ones; at least one.
fn shown(branches: &[JobBranch]) -> Vec<JobBranch> {
    let has_failed = |b: &JobBranch| matches!(b.state(), JobBranchState::Conflict | JobBranchState::Refused);
    let below: BTreeSet<&str> =
        branches.iter().filter(|b| has_failed(b)).map(|b| b.parent.as_str()).collect();
    let rank = |b: &JobBranch| match has_failed(b) {
        true => 0,
        false if below.contains(b.branch.as_str()) => 1,
        false => 2,
    };
    let mut order: Vec<usize> = (0..branches.len()).collect();
    order.sort_by_key(|nth| rank(&branches[*nth]));
    let mut left = MAX_SHOWN;
    let mut chosen = Vec::new();
    for nth in order {
        let size = branches[nth].encoded_len();
        if size > left && !chosen.is_empty() {
            break;
        }
        left = left.saturating_sub(size);
        chosen.push(nth);
    }
    chosen.sort_unstable();
    chosen.into_iter().map(|nth| branches[nth].clone()).collect()
}

/// The key that is signalled when a job has ended: what a later one on one of its branches waits for.
pub fn ended(job: &str) -> String {
    format!("jobs/ended/{job}")
}

/// The key that is signalled when a job on a branch has ended, for flows that wait since an older binary ran them.
pub fn turn(repository: &str, branch: &str) -> String {
    format!("jobs/{repository}/{branch}")
}

/// The key that is signalled when a job of an organization has ended.
pub fn turn_of_organization(organization: &str) -> String {
    format!("jobs/{organization}")
}

/// The plan of a job that has not begun.
pub fn unplanned(branch: &str) -> JobBranch {
    JobBranch { branch: branch.to_owned(), state: JobBranchState::Pending.into(), ..JobBranch::default() }
}

/// What a request asks for, checked.
///
/// # Errors
/// `INVALID_FIELD` for texts that cannot be in a commit.
pub fn settings(request: &PublishBranchRequest, branch: &str) -> Result<PublishSettings> {
    let settings = PublishSettings {
        to_branch: request.to_branch.clone(),
        squash: request.squash,
        message: or(&request.message, &format!("Work on {branch}")),
        force: request.force,
        plan_only: request.plan_only,
        author_name: or(&request.author_name, "Foundry"),
        author_email: or(&request.author_email, "foundry@localhost"),
        agent: or(&request.agent, "Foundry agent"),
        expected_commit: request.expected_commit.clone(),
        keep_commits: request.keep_commits,
        allow_conflicts: request.allow_conflicts,
        pull_request: None,
    };
    if settings.squash && settings.keep_commits {
        return Err(Error::invalid_field("keep_commits", "must not be set together with squash"));
    }
    if !settings.expected_commit.is_empty() && CommitId::parse(&settings.expected_commit).is_err() {
        return Err(Error::invalid_field("expected_commit", "must be the full id of a commit"));
    }
    if settings.message.len() > MAX_MESSAGE {
        return Err(Error::invalid_field("message", format!("must be at most {MAX_MESSAGE} bytes")));
    }
    if settings.message.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(Error::invalid_field("message", "must not contain control characters"));
    }
    check_name("author_name", &settings.author_name)?;
    check_name("agent", &settings.agent)?;
    check_email("author_email", &settings.author_email)?;
    Ok(settings)
}

fn or(given: &str, default: &str) -> String {
    if given.trim().is_empty() { default.to_owned() } else { given.trim().to_owned() }
}

fn check_name(field: &str, name: &str) -> Result<()> {
    // Git takes these away at both ends, and refuses a name of nothing else.
    let is_crud = |c: char| c.is_control() || "<>".contains(c);
    if name.chars().count() > MAX_NAME
        || name.chars().any(is_crud)
        || !name.chars().any(char::is_alphanumeric)
    {
        let text =
            format!("must be at most {MAX_NAME} characters with a letter or digit, and without < and >");
        return Err(Error::invalid_field(field, text));
    }
    Ok(())
}

fn check_email(field: &str, email: &str) -> Result<()> {
    let is_foreign = |c: char| c.is_control() || c.is_whitespace() || "<>".contains(c);
    if email.len() > MAX_EMAIL || email.chars().any(is_foreign) || !email.chars().any(char::is_alphanumeric) {
        let text = format!("must be an address of at most {MAX_EMAIL} bytes");
        return Err(Error::invalid_field(field, text));
    }
    Ok(())
}

/// The action that a request names, with what it asks for, checked.
///
/// # Errors
/// `INVALID_FIELD` for a kind that is no action, a branch where none belongs or none where one is needed, and for texts
/// that cannot be in a commit; `STACK_CIRCLE` for a branch that is to stand on itself.
pub fn requested(request: &RunRepositoryActionRequest) -> Result<(Action, ActionSettings)> {
    let found = Action::ALL.iter().find(|(a, _, kind)| *kind == request.kind() && *a != Action::Undo);
    let Some((action, ..)) = found else {
        return Err(Error::invalid_field("kind", "must be an action on a repository"));
    };
    let name = |field: &'static str, name: &str, needed: bool, allowed: bool| {
        match (name.is_empty(), needed, allowed) {
            (true, true, _) => return Err(Error::invalid_field(field, "is needed by this kind")),
            (false, _, false) => return Err(Error::invalid_field(field, "is not used by this kind")),
            (true, ..) => return Ok(()),
            (false, ..) => {}
        }
        let parsed = BranchName::parse(name);
        parsed.map(drop).map_err(|e| Error::invalid_field(field, e.to_string()))
    };
    let of_one = !matches!(action, Action::SyncRepo | Action::RestackRepo);
    name("branch", &request.branch, of_one, of_one)?;
    let is_moved = *action == Action::ReparentBranch;
    let may_move = is_moved || matches!(action, Action::RebaseBranch | Action::RegisterExistingBranch);
    name("parent", &request.parent, is_moved, may_move)?;
    if !request.parent.is_empty() && request.parent == request.branch {
        let text = format!("the branch {} cannot stand on itself", request.branch);
        return Err(Error::precondition("STACK_CIRCLE", &request.branch, text)
            .next_action("choose a parent that does not stand on the branch"));
    }
    let settings = ActionSettings {
        branch: request.branch.clone(),
        parent: request.parent.clone(),
        plan_only: request.plan_only,
        drop_signatures: request.drop_signatures,
        committer_name: or(&request.committer_name, "Foundry"),
        committer_email: or(&request.committer_email, "foundry@localhost"),
        plan_job_id: request.plan_job_id.clone(),
        ..ActionSettings::default()
    };
    check_name("committer_name", &settings.committer_name)?;
    check_email("committer_email", &settings.committer_email)?;
    Ok((*action, settings))
}

/// The message of a commit, with the agent as co-author.
pub fn commit_message(settings: &PublishSettings) -> String {
    let (text, agent) = (settings.message.trim_end(), &settings.agent);
    format!("{text}\n\nCo-authored-by: {agent} <{}>\n", foundry_git::AGENT_EMAIL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(change: impl FnOnce(&mut PublishBranchRequest)) -> Result<PublishSettings> {
        let mut request = PublishBranchRequest::default();
        change(&mut request);
        settings(&request, "feat/x")
    }

    #[test]
    fn texts_that_cannot_be_in_a_commit_are_refused() {
        for name in ["<>", "a\nb", "...", &"x".repeat(101)] {
            assert!(asked(|r| r.author_name = name.to_owned()).is_err(), "{name:?}");
            assert!(asked(|r| r.agent = name.to_owned()).is_err(), "{name:?}");
        }
        for email in ["a b@c", "a\n@b", "<a@b>", "@", &"x".repeat(255)] {
            assert!(asked(|r| r.author_email = email.to_owned()).is_err(), "{email:?}");
        }
        assert!(asked(|r| r.expected_commit = "abc".to_owned()).is_err());
        assert!(asked(|r| r.message = "a\0b".to_owned()).is_err());
        assert!(asked(|r| r.message = "x".repeat(5_000)).is_err());
    }

    #[test]
    fn of_many_branches_a_watch_shows_those_that_failed_with_what_they_stand_on_and_the_first_ones() {
        let branch = |n: usize| JobBranch {
            branch: format!("branch-{n:03}"),
            parent: format!("branch-{:03}", n.wrapping_sub(1)),
            state: if n == 150 { JobBranchState::Conflict } else { JobBranchState::Planned }.into(),
            old_commit: "a".repeat(40),
            new_commit: "b".repeat(40),
            ..JobBranch::default()
        };
        let all: Vec<JobBranch> = (0..200).map(branch).collect();
        let some = shown(&all);
        let size: usize = some.iter().map(JobBranch::encoded_len).sum();
        assert!(size <= MAX_SHOWN && some.len() > 50, "{size} bytes of {}", some.len());
        assert_eq!(some[0], all[0]);
        // What the failed one stands on decides whether it can be resolved.
        assert_eq!(some[some.len() - 2..], all[149..=150]);
        let large = JobBranch { remote_message: "x".repeat(MAX_SHOWN), ..JobBranch::default() };
        assert_eq!(shown(std::slice::from_ref(&large)), [large]);
    }

    #[test]
    fn the_message_names_the_agent() {
        let given = asked(|r| {
            r.message = "Add a parser\n\nIn Rust.\n".to_owned();
            r.agent = "claude".to_owned();
        });
        let message = commit_message(&given.unwrap());
        assert_eq!(message, "Add a parser\n\nIn Rust.\n\nCo-authored-by: claude <agent@foundry.invalid>\n");
        assert_eq!(asked(|_| {}).unwrap().message, "Work on feat/x");
    }
}
