//! Pushes the work of a task to a branch of the remote.

use std::time::Duration;

use foundry_core::{Env, Error, JobId, Result, TaskId};
use foundry_flow::{Flow, FlowStatus, Outcome, Projection, Stage, StageContext, Transition, stage};
use foundry_git::{BranchName, CommitId, GitError, Mirror, MirrorLimits, Pushed, RemoteUrl, WorkName};
use foundry_proto::common::v1::{Condition, Publication};
use foundry_proto::repo::v1::{JobBranch, JobBranchState, PublishSettings};
use foundry_store::{Scope, Value, WriteSet};
use serde::{Deserialize, Serialize};

use crate::broker::{self, Remote};
use crate::context::Context;
use crate::domain::job::{self, Job, Kind, State};
use crate::domain::publishing::{self, moved};
use crate::domain::pull_request::next_action as refused_by_forge;
use crate::domain::repository::{self, Repository};
use crate::domain::work::{self, Work};
use crate::flow::pushing::{self, Failed, RECORD, RETRY, audited, declined, refused, stopped};
use crate::flow::{pull_request, sync, turn};
use crate::store::branches::{self, BranchRow};
use crate::store::{jobs, publications, pull_requests, repositories, works};

/// Key and subject are the job's id.
pub static PUBLISH: Flow<Context> = Flow::new(
    "publish_branch",
    &[
        Stage::new(QUEUED, Duration::from_secs(60), RETRY, |cx, flow| stage(await_turn(cx, flow))),
        Stage::new(PLANNING, Duration::from_secs(5 * 60), RETRY, |cx, flow| stage(plan::plan(cx, flow))),
        Stage::new(PUSHING, Duration::from_secs(22 * 60), RETRY, |cx, flow| stage(push(cx, flow))),
        Stage::new(RECORDING, Duration::from_secs(2 * 60), RECORD, |cx, flow| stage(record(cx, flow))),
        Stage::new(OPENING, Duration::from_secs(3 * 60), RETRY, |cx, flow| {
            stage(pull_request::open(cx, flow))
        }),
    ],
)
// Most of them wait for a remote.
.concurrency(8);

const QUEUED: &str = "queued";
const PLANNING: &str = "planning";
const PUSHING: &str = "pushing";
const RECORDING: &str = "recording";
const OPENING: &str = "opening";

/// So long after its creation a job waits for an import.
const IMPORT_WAIT: Duration = Duration::from_secs(2 * 60);
/// What a user can do when a push may have arrived.
const PUBLISH_AGAIN: &str = "publish again: what has arrived is not pushed twice";

/// What the projection needs to know of a job.
#[derive(Debug, Serialize, Deserialize)]
pub struct Input {
    repository_id: String,
    branch: String,
}

impl Input {
    /// The input for a job.
    pub fn of(job: &Job) -> Self {
        Self { repository_id: job.repository_id.to_string(), branch: job.first_branch().to_owned() }
    }
}

/// How many commits a work has since it was published; 0 if it never was.
///
/// # Errors
/// When git fails.
pub async fn commits_since(
    mirror: &Mirror,
    publication: Option<&Publication>,
    head: &CommitId,
) -> std::result::Result<i32, GitError> {
    let Some(publication) = publication else { return Ok(0) };
    let published = [&publication.work_commit, &publication.commit].map(|c| CommitId::parse(c));
    let published: Vec<CommitId> = published.into_iter().collect::<std::result::Result<_, _>>()?;
    let count = mirror.commits_since(head, &published).await?;
    Ok(i32::try_from(count).unwrap_or(i32::MAX))
}

/// What a stage works with.
struct Loaded {
    job: Job,
    /// What was requested.
    publish: PublishSettings,
    /// The task whose work it is.
    task: TaskId,
    /// The branch with its plan and result, which [`with_branch`] writes back.
    planned: JobBranch,
    work: Work,
    /// How the task last published to this branch.
    before: Option<Publication>,
    repository: Repository,
    branch: BranchName,
    mirror: Mirror,
}

/// How the stage ends instead when the job or the repository is gone or going.
async fn load(cx: &Context, flow: &StageContext) -> Result<std::result::Result<Loaded, Outcome>> {
    let id: JobId = flow.subject_id().parse()?;
    let Some(mut job) = jobs::find(&cx.store, &id).await? else { return Ok(Err(Outcome::done())) };
    let (Kind::Publish(publish), Some(task)) = (job.kind.clone(), job.task_id.clone()) else {
        return Err(Error::internal(format!("{id} is no publication")));
    };
    let repository = repositories::find(&cx.store, &job.repository_id).await?;
    let repository = repository.filter(|r| r.state != repository::State::Deleting);
    let (Some(repository), Some(work)) = (repository, works::find(&cx.store, &task).await?) else {
        return Ok(Err(Outcome::fail("REPOSITORY_REMOVED", "the repository is being removed")));
    };
    let path = cx.mirror_path(&job.repository_id);
    let mirror = Mirror::open(&cx.git, path, MirrorLimits::default()).await?;
    let branch = BranchName::parse(job.first_branch())?;
    let planned = if job.branches.is_empty() { JobBranch::default() } else { job.branches.swap_remove(0) };
    let before = publications::find(&cx.store, &work, branch.as_str()).await?;
    Ok(Ok(Loaded { job, publish, task, planned, work, before, repository, branch, mirror }))
}

/// Waits for earlier jobs on the branch, unless it is only a plan; for those of the organization, if they are many; and for
/// a while for an import of newer work that is under way.
async fn await_turn(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let id: JobId = flow.subject_id().parse()?;
    let Some(job) = jobs::find(&cx.store, &id).await? else { return Ok(Outcome::done()) };
    if let Some(waits) = turn::wait(cx, &job).await? {
        return Ok(waits);
    }
    let Some(task) = &job.task_id else { return Ok(Outcome::done()) };
    let work = works::find(&cx.store, task).await?;
    let until = job.create_time.plus(IMPORT_WAIT);
    // After that, the last version that is readable is published.
    if cx.env.clock.now() < until && work.is_some_and(|w| w.state == work::State::Importing) {
        let (reason, text) = ("WORK_IMPORTING", "the newest work of the task is being imported");
        let key = super::import::imported_key(task);
        return Ok(Outcome::wait(key, text).because(reason).until(until));
    }
    Ok(Outcome::done())
}

/// Pushes, unless the remote has the commit already: then an earlier attempt has arrived.
async fn push(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let mut loaded = match load(cx, flow).await? {
        Ok(loaded) => loaded,
        Err(ended) => return Ok(ended),
    };
    if loaded.publish.plan_only {
        return Ok(Outcome::done());
    }
    if loaded.planned.state() == JobBranchState::Planned {
        // Recorded first: a push of unknown end is never taken for none.
        loaded.planned.state = JobBranchState::Pushing.into();
        return Ok(Outcome::goto(PUSHING).recording(with_branch(&loaded.job, &loaded.planned)));
    }
    if let Some(waits) = turn::again(cx, &loaded.job).await? {
        return Ok(waits);
    }
    flow.progress(format!("pushing to {}", loaded.branch)).await;
    let remote = broker::remote(cx, &loaded.repository).await?;
    let pushed = tokio::select! {
        pushed = pushed(&loaded, &remote.url) => pushed,
        () = flow.cancellation().cancelled() => return Ok(stopped()),
    };
    let Loaded { job, planned: mut branch, .. } = loaded;
    let (refused, found) = match pushed {
        Ok(Arrival::There(words)) => {
            branch.state = JobBranchState::Pushed.into();
            branch.remote_message = words;
            let mut ws = with_branch(&job, &branch);
            audited(&mut ws, &flow.flow().user_id, &job, &branch);
            remote.learned(cx, &mut ws, Ok(())).await?;
            return Ok(Outcome::done().recording(ws));
        }
        Ok(Arrival::Moved(found)) => {
            let expected = Some(branch.old_commit.as_str()).filter(|c| !c.is_empty());
            (moved(&branch.branch, expected, found.as_deref()), found)
        }
        Ok(Arrival::Default) => {
            let e = publishing::default_branch(&branch.branch);
            (publishing::Refused { reason: e.reason(), message: e.message().to_owned() }, None)
        }
        Ok(Arrival::Lacks(refused)) => (refused, None),
        Ok(Arrival::Refused(refusal)) => {
            let message = declined(&branch.branch, &refusal);
            branch.remote_message = refusal.words;
            (publishing::Refused { reason: refusal.reason, message }, None)
        }
        Err(e) => return failed(cx, &remote, e).await,
    };
    branch.state = JobBranchState::Refused.into();
    branch.found_commit = found.unwrap_or_default();
    Ok(Outcome::fail(refused.reason, refused.message).recording(with_branch(&job, &branch)))
}

/// What the remote has after a push.
enum Arrival {
    /// With what the remote has said.
    There(String),
    Moved(Option<String>),
    Default,
    /// It does not have the files of LFS, so that nothing was pushed.
    Lacks(publishing::Refused),
    Refused(foundry_git::Refusal),
}

async fn pushed(loaded: &Loaded, remote: &RemoteUrl) -> std::result::Result<Arrival, Failed> {
    let Loaded { planned, branch, mirror, work, .. } = loaded;
    let new = CommitId::parse(&planned.new_commit)?;
    let old = Some(&planned.old_commit).filter(|c| !c.is_empty()).map(|c| CommitId::parse(c)).transpose()?;
    let tip = mirror.remote_tip(remote, branch).await?;
    if tip.commit.as_ref() == Some(&new) {
        return Ok(Arrival::There(String::new()));
    }
    if tip.is_default && (!work.works_on(branch.as_str()) || planned.rewrites) {
        return Ok(Arrival::Default);
    }
    if tip.commit != old {
        return Ok(Arrival::Moved(tip.commit.map(String::from)));
    }
    if let Some(refused) = lfs::refused(loaded, remote, &new).await? {
        return Ok(Arrival::Lacks(refused));
    }
    match mirror.push_branch(remote, branch, &new, old.as_ref()).await? {
        Pushed::Accepted(words) => Ok(Arrival::There(words)),
        Pushed::Refused(refusal) if refusal.reason == "BRANCH_MOVED" => {
            let now = mirror.remote_tip(remote, branch).await?.commit;
            if now.as_ref() == Some(&new) {
                return Ok(Arrival::There(String::new()));
            }
            if now == old {
                // Whatever the remote has said: the branch is where it was.
                return Ok(Arrival::Refused(foundry_git::Refusal { reason: "PUSH_DECLINED", ..refusal }));
            }
            Ok(Arrival::Moved(now.map(String::from)))
        }
        Pushed::Refused(refusal) => Ok(Arrival::Refused(refusal)),
    }
}

/// Makes mirror, branches and work know what the remote has, and has the repository synchronized.
async fn record(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let loaded = match load(cx, flow).await? {
        Ok(loaded) => loaded,
        Err(ended) => return Ok(ended),
    };
    if loaded.publish.plan_only {
        return Ok(Outcome::done());
    }
    Box::pin(recorded(cx, flow, loaded, WriteSet::new())).await
}

async fn recorded(cx: &Context, flow: &StageContext, loaded: Loaded, mut ws: WriteSet) -> Result<Outcome> {
    let Loaded { job, task, planned, mut work, repository, branch, mirror, .. } = loaded;
    let (commit, made_of) = (CommitId::parse(&planned.new_commit)?, CommitId::parse(&planned.work_commit)?);
    let name = WorkName::from(&task);
    if let Err(e) = mirror.record_published(&branch, &commit, (&name, &made_of)).await {
        if e.retryable() {
            return Ok(Outcome::retry(e.reason(), e.message()));
        }
        // The synchronization that follows finds out what has become of the branches.
        tracing::warn!(job = %job.job_id, reason = e.reason(), stderr = e.stderr(), "the mirror does not have the branch yet");
    }
    let now = cx.env.clock.now();
    let pull_request = pull_requests::find(&cx.store, &job.repository_id, branch.as_str()).await?;
    let mut publication = Publication {
        branch: branch.to_string(),
        commit: commit.to_string(),
        work_commit: made_of.to_string(),
        publish_time: Some(now.to_proto()),
        commits_since: 0,
        job_id: job.job_id.to_string(),
        squash: planned.single_commit,
        work_tree: super::published::work_tree(&mirror, made_of.as_str(), commit.as_str())
            .await
            .unwrap_or_default(),
        pull_request: pull_request.map(|row| row.pull_request),
        replaced_by: String::new(),
    };
    let head = work.readable_commit()?;
    publication.commits_since = match commits_since(&mirror, Some(&publication), &head).await {
        Ok(count) => count,
        Err(e) => {
            // The next import counts again; that the work is published is not to be lost for it.
            tracing::warn!(job = %job.job_id, reason = e.reason(), stderr = e.stderr(), "commits not counted");
            0
        }
    };
    let of = (&work.task_id, &work.repository_id);
    // One of an older binary is known by the work alone.
    if let Some(earlier) = work.publication.as_ref().filter(|earlier| earlier.branch != publication.branch) {
        publications::put(&mut ws, of, earlier);
    }
    publications::put(&mut ws, of, &publication);
    work.publication = Some(publication);
    let rev = ws.scope(Scope::organization(&job.organization_id));
    works::save(&mut ws, rev, &work);
    if planned.rewrites {
        let old = CommitId::parse(&planned.old_commit)?;
        let push = replaced::Push { mirror: &mirror, by: &work, old: &old, new: &commit };
        replaced::mark(cx, &mut ws, rev, push).await?;
    }
    let subject = planned.commits.first().map(|c| c.subject.clone()).unwrap_or_default();
    let row =
        BranchRow { name: branch.to_string(), commit_id: commit.to_string(), commit_time: now, subject };
    branches::put(&mut ws, &job.repository_id, &row);
    let on_behalf = (flow.flow().user_id.as_str(), flow.traceparent());
    sync::schedule(cx, &mut ws, &repository, on_behalf).await?;
    Ok(Outcome::done().recording(ws))
}

fn with_branch(job: &Job, branch: &JobBranch) -> WriteSet {
    let job = Job { branches: vec![branch.clone()], ..job.clone() };
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&job.organization_id));
    jobs::set_branches(&mut ws, rev, &job);
    ws
}

/// An attempt that failed, as for every job on branches; what the mirror does not have any more is the work.
async fn failed(cx: &Context, remote: &Remote, e: Failed) -> Result<Outcome> {
    let e = match e {
        Failed::Git(e) if matches!(e.reason(), "COMMIT_NOT_FOUND" | "GIT_OBJECT_NOT_FOUND") => {
            refused("WORK_MISSING", "the mirror does not have the work of the task any more")
        }
        e => e,
    };
    pushing::failed(cx, remote, e, WriteSet::new()).await
}

/// Projects the state of a publication to the job's row, and lets the next job on the branch go on.
pub struct Shown(pub Env);

impl Projection for Shown {
    fn project(&self, flow: &FlowStatus) -> WriteSet {
        let mut ws = WriteSet::new();
        let Some(organization) = &flow.organization_id else { return ws };
        let state = match flow.transition {
            Some(Transition::Done) => State::Done,
            Some(Transition::Failed) => State::Failed,
            Some(Transition::Cancelled) => State::Cancelled,
            _ if flow.stage == QUEUED => State::Queued,
            _ => State::Running,
        };
        let rev = ws.scope(Scope::organization(organization));
        let end = if state.is_finished() { flow.status_time.into() } else { Value::Null };
        jobs::set_state(&mut ws, rev, &flow.subject_id, state, &condition(state, flow), end);
        if state.is_finished()
            && let Ok(input) = Input::deserialize(&flow.input)
        {
            foundry_flow::signal(&mut ws, &self.0, &job::turn(&input.repository_id, &input.branch));
        }
        if state.is_finished() {
            let has_pushed = [PUSHING, RECORDING].contains(&flow.stage.as_str());
            if has_pushed && state != State::Done {
                pushing::settle_later(&mut ws, &self.0, &settle::SETTLE, flow);
            }
            foundry_flow::signal(&mut ws, &self.0, &job::ended(&flow.subject_id));
        }
        if state.is_finished() || flow.transition == Some(Transition::Retrying) {
            foundry_flow::signal(&mut ws, &self.0, &job::turn_of_organization(organization.as_str()));
        }
        ws
    }
}

fn condition(state: State, flow: &FlowStatus) -> Condition {
    let mut condition = foundry_flow::condition(&PUBLISH, flow);
    match state {
        State::Failed => {
            let next = broker::next_action(&flow.reason).or_else(|| refused_by_forge(&flow.reason));
            next.unwrap_or_else(|| publishing::next_action(&flow.reason))
                .clone_into(&mut condition.next_action);
            if flow.stage == OPENING {
                condition.message.push_str("; the branch is published, its pull request may not be open");
            }
            let is_refused =
                broker::next_action(&flow.reason).is_some() || publishing::is_refusal(&flow.reason);
            if flow.stage == RECORDING || (flow.stage == PUSHING && !is_refused) {
                condition.message.push_str("; the remote may have the new commit");
                PUBLISH_AGAIN.clone_into(&mut condition.next_action);
            }
        }
        State::Cancelled => {
            "CANCELLED".clone_into(&mut condition.reason);
            let (message, next) = match flow.stage.as_str() {
                PUSHING | RECORDING => {
                    ("cancelled during the push: the remote may have the new commit", PUBLISH_AGAIN)
                }
                OPENING => ("cancelled after the push: the pull request may not be open", PUBLISH_AGAIN),
                _ => ("cancelled before anything was pushed", ""),
            };
            message.clone_into(&mut condition.message);
            next.clone_into(&mut condition.next_action);
        }
        State::Queued if flow.wait_key.is_some() => {
            let waits = if flow.reason == "JOB_QUEUED" { "an earlier job" } else { "an import" };
            waits.clone_into(&mut condition.waiting_on);
            "none needed: it begins by itself".clone_into(&mut condition.next_action);
        }
        State::Done => condition = Condition { since_time: condition.since_time, ..Condition::default() },
        _ => {}
    }
    condition
}

mod lfs;
mod plan;
mod replaced;
pub mod settle;
#[cfg(test)]
mod tests;
