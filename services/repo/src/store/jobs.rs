//! Tables `jobs`: actions on branches of remotes, and `job_branches`: the branches that each may change. A new job removes
//! those of its repository that ended long ago, and all go with the repository.

use std::collections::BTreeSet;

use foundry_core::{JobId, PageRequest, PageToken, RepositoryId, Result, TaskId};
use foundry_proto::common::v1::Condition;
use foundry_proto::repo::v1::{ActionSettings, JobBranch, JobBranchState, JobBranches};
use foundry_service::{readable, stored_condition};
use foundry_store::{Reader, RevRef, Row, Table, Value, WriteSet};
use prost::Message as _;

use crate::domain::job::{Action, Job, Kind, PUBLISH_BRANCH, State};
use crate::view::jobs::JOB;

pub const JOBS: Table = Table::new(
    "jobs",
    &[
        "job_id",
        "organization_id",
        "repository_id",
        "task_id",
        "flow_id",
        "rev",
        "created_rev",
        "kind",
        "state",
        "condition",
        "branch",
        "new_commit",
        "branches",
        "publish",
        "created_by",
        "create_time",
        "end_time",
        "settings",
        "planned_from",
    ],
    &["job_id"],
);

const JOB_BRANCHES: Table =
    Table::new("job_branches", &["job_id", "branch", "repository_id"], &["job_id", "branch"]);

/// Jobs that have ended and are kept of one repository.
const KEPT: u32 = 200;
/// Most that one new job removes.
const REMOVED: u32 = 20;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT job_id, organization_id, repository_id, task_id, flow_id, rev, created_rev, kind, state, condition, ",
            "branch, branches, publish, settings, planned_from, created_by, create_time, end_time FROM jobs ",
            $rest
        )
    };
}

/// Rows of an organization by revision, for watches.
pub const BY_REV: &str = select!("WHERE organization_id = $1 AND rev > $2 ORDER BY rev LIMIT $3");
/// Rows of a repository by revision, for watches.
pub const OF_REPOSITORY_BY_REV: &str =
    select!("WHERE organization_id = $1 AND repository_id = $2 AND rev > $3 ORDER BY rev LIMIT $4");

/// Reads a row. What cannot be decoded of it is shown as empty, beside the condition that names the damage.
pub fn read(row: &Row) -> Result<Job> {
    let id = row.text("job_id")?;
    let mut branches = readable::<JobBranches>(row, "branches", id)?.unwrap_or_default().branches;
    let branch = row.text("branch")?;
    match branches.first_mut() {
        Some(first) if !branch.is_empty() => branch.clone_into(&mut first.branch),
        None if !branch.is_empty() => {
            branches.push(JobBranch { branch: branch.to_owned(), ..JobBranch::default() });
        }
        _ => {}
    }
    let kind = row.text("kind")?;
    let kind = match Action::parse(kind) {
        Some(action) => Kind::Action(action, readable(row, "settings", id)?.unwrap_or_default()),
        None if kind == PUBLISH_BRANCH => Kind::Publish(readable(row, "publish", id)?.unwrap_or_default()),
        None => Kind::Unknown(kind.to_owned()),
    };
    let task = row.text("task_id")?;
    Ok(Job {
        job_id: id.parse()?,
        organization_id: row.text("organization_id")?.parse()?,
        repository_id: row.text("repository_id")?.parse()?,
        task_id: if task.is_empty() { None } else { Some(task.parse()?) },
        flow_id: row.text("flow_id")?.parse()?,
        rev: row.int("rev")?,
        created_rev: row.int("created_rev")?,
        state: State::parse(row.text("state")?),
        condition: stored_condition(row, "condition", id)?,
        branches,
        planned_from: row.text("planned_from")?.to_owned(),
        kind,
        created_by: row.text("created_by")?.to_owned(),
        create_time: row.time("create_time")?,
        end_time: row.opt_time("end_time")?,
    })
}

/// The job with this id, in any organization.
pub async fn find(from: &impl Reader, id: &JobId) -> Result<Option<Job>> {
    from.query(select!("WHERE job_id = $1"), &[id.as_str().into()]).await?.first().map(read).transpose()
}

/// A page of a repository's jobs, the newest first; `task` is empty for all.
pub async fn list(
    from: &impl Reader,
    repository: &RepositoryId,
    task: &str,
    page: &PageRequest,
) -> Result<(Vec<Job>, Option<PageToken>)> {
    let before = page.begins_after(i64::MAX, |rev| rev.parse().ok())?;
    let params = [repository.as_str().into(), before.into(), task.into(), page.limit().into()];
    let sql = select!(
        "WHERE repository_id = $1 AND created_rev < $2 AND ($3 = '' OR task_id = $3) ORDER BY created_rev DESC LIMIT $4"
    );
    let found = from.query(sql, &params).await?.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(page.cut(found, |job| job.created_rev.to_string()))
}

/// In the place of a branch: the job may change any one, as its stack is not known yet. No branch has this name, or the next.
const ANY: &str = "";
/// In the place of a branch: the job gives a parent. Two at once could make a circle that neither of them sees.
const PARENTS: &str = "/";

/// The newest unfinished job that may change one of the same branches and was created before this one. Rows of older
/// binaries name their branch themselves.
pub async fn before(from: &impl Reader, job: &Job) -> Result<Option<JobId>> {
    let sql = "SELECT job_id FROM jobs WHERE repository_id = $1 AND created_rev < $2 \
               AND state IN ('queued', 'running') AND ((branch <> '' AND branch = $3) \
               OR branch IN (SELECT branch FROM job_branches WHERE job_id = $4) \
               OR job_id IN (SELECT o.job_id FROM job_branches o JOIN job_branches m \
               ON m.repository_id = o.repository_id AND m.branch = o.branch WHERE m.job_id = $4) \
               OR (CAST($5 AS BIGINT) = 1 AND job_id IN (SELECT job_id FROM job_branches WHERE repository_id = $1 AND branch = ''))) \
               ORDER BY created_rev DESC LIMIT 1";
    let params = [
        job.repository_id.as_str().into(),
        job.created_rev.into(),
        job.first_branch().into(),
        job.job_id.as_str().into(),
        job.kind.changes_branches().into(),
    ];
    from.query(sql, &params).await?.first().map(|row| row.text("job_id")?.parse()).transpose()
}

/// The branches that a job may change.
pub async fn may_change(from: &impl Reader, job: &JobId) -> Result<BTreeSet<String>> {
    let sql = "SELECT branch FROM job_branches WHERE job_id = $1 AND branch NOT IN ('', '/')";
    let rows = from.query(sql, &[job.as_str().into()]).await?;
    rows.iter().map(|row| Ok(row.text("branch")?.to_owned())).collect()
}

/// On how many branches jobs of the organization are unfinished that were created before this one, without those that wait
/// for their next attempt; one about no branch by its name counts as one. Jobs that begin at the same moment have different numbers of them.
pub async fn heads_before(from: &impl Reader, job: &Job) -> Result<i64> {
    let sql = "SELECT COUNT(*) AS heads FROM (SELECT DISTINCT repository_id, \
               CASE branch WHEN '' THEN job_id ELSE branch END AS head FROM jobs \
               WHERE organization_id = $1 AND created_rev < $2 AND state IN ('queued', 'running') \
               AND NOT EXISTS (SELECT 1 FROM flows f WHERE f.flow_id = jobs.flow_id AND f.status = 'ready' \
               AND f.failures > 0)) AS earlier";
    let rows = from.query(sql, &[job.organization_id.as_str().into(), job.created_rev.into()]).await?;
    rows.first().map_or(Ok(0), |row| row.int("heads"))
}

/// How many other jobs of the organization work on a remote at this moment.
pub async fn at_work(from: &impl Reader, job: &Job) -> Result<i64> {
    let sql = "SELECT COUNT(*) AS jobs FROM jobs JOIN flows f ON f.flow_id = jobs.flow_id \
               WHERE jobs.organization_id = $1 AND jobs.state = 'running' AND jobs.job_id <> $2 AND f.status = 'running'";
    let rows = from.query(sql, &[job.organization_id.as_str().into(), job.job_id.as_str().into()]).await?;
    rows.first().map_or(Ok(0), |row| row.int("jobs"))
}

/// Unfinished jobs of a repository.
pub async fn open(from: &impl Reader, repository: &RepositoryId) -> Result<i64> {
    let sql = "SELECT COUNT(*) AS open FROM jobs WHERE repository_id = $1 AND state IN ('queued', 'running')";
    let rows = from.query(sql, &[repository.as_str().into()]).await?;
    rows.first().map_or(Ok(0), |row| row.int("open"))
}

/// The commit of the task's work of which this commit was made for the branch by a job, whatever became of that.
pub async fn published_as(
    from: &impl Reader,
    task: &TaskId,
    (repository, branch, commit): (&RepositoryId, &str, &str),
) -> Result<Option<String>> {
    let sql = select!(
        "WHERE repository_id = $1 AND branch = $2 AND task_id = $3 AND new_commit = $4 ORDER BY created_rev DESC LIMIT 1"
    );
    let params = [repository.as_str().into(), branch.into(), task.as_str().into(), commit.into()];
    let found = from.query(sql, &params).await?.first().map(read).transpose()?;
    Ok(found.and_then(|job| job.branches.into_iter().next()).map(|branch| branch.work_commit))
}

/// Most jobs on a branch that are read to follow it.
const MAX_FOLLOWED: u32 = 100;

/// Where actions have moved a branch from and to, the oldest first: those of the newest 100 jobs on it.
///
/// # Errors
/// `INTERNAL` when a row is damaged.
pub async fn moves(
    from: &impl Reader,
    repository: &RepositoryId,
    branch: &str,
) -> Result<Vec<(String, String)>> {
    let sql = select!(
        "WHERE repository_id = $1 AND job_id IN (SELECT job_id FROM job_branches WHERE repository_id = $1 AND branch = $2) \
         ORDER BY created_rev DESC LIMIT $3"
    );
    let params = [repository.as_str().into(), branch.into(), MAX_FOLLOWED.into()];
    let jobs: Vec<Job> = from.query(sql, &params).await?.iter().map(read).collect::<Result<_>>()?;
    let actions = jobs.into_iter().rev().filter(|job| matches!(job.kind, Kind::Action(..)));
    let pushed = actions
        .flat_map(|job| job.branches)
        .filter(|b| b.branch == branch && b.state() == JobBranchState::Pushed);
    Ok(pushed.map(|b| (b.old_commit, b.new_commit)).collect())
}

/// The jobs of a repository with their flows, for its deletion.
pub async fn of_repository(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<Job>> {
    let sql = select!("WHERE repository_id = $1");
    from.query(sql, &[repository.as_str().into()]).await?.iter().map(read).collect()
}

/// The ids of a repository's jobs.
pub async fn ids_of_repository(from: &impl Reader, repository: &RepositoryId) -> Result<BTreeSet<String>> {
    let sql = "SELECT job_id FROM jobs WHERE repository_id = $1";
    let rows = from.query(sql, &[repository.as_str().into()]).await?;
    rows.iter().map(|row| Ok(row.text("job_id")?.to_owned())).collect()
}

/// The oldest jobs of a repository that have ended, beyond those that are kept.
pub async fn outdated(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<Job>> {
    let sql = select!(
        "WHERE repository_id = $1 AND state IN ('done', 'failed', 'cancelled') ORDER BY created_rev DESC LIMIT $2 OFFSET $3"
    );
    let params = [repository.as_str().into(), REMOVED.into(), KEPT.into()];
    from.query(sql, &params).await?.iter().map(read).collect()
}

/// Adds a new job, which may change its branches and those that are named.
pub fn insert(ws: &mut WriteSet, rev: RevRef, job: &Job, others: &[String]) {
    let own = job.branches.iter().map(|b| b.branch.as_str());
    let all: BTreeSet<&str> = own.chain(others.iter().map(String::as_str)).chain(places(&job.kind)).collect();
    for branch in all {
        ws.insert(&JOB_BRANCHES, job_branch(job, branch));
    }
    let (publish, settings) = match &job.kind {
        Kind::Publish(settings) => (settings.encode_to_vec(), Vec::new()),
        Kind::Action(_, settings) => (Vec::new(), settings.encode_to_vec()),
        Kind::Unknown(_) => (Vec::new(), Vec::new()),
    };
    let values: Vec<Value> = vec![
        job.job_id.as_str().into(),
        job.organization_id.as_str().into(),
        job.repository_id.as_str().into(),
        job.task().into(),
        job.flow_id.as_str().into(),
        rev.into(),
        rev.into(),
        job.kind.as_str().into(),
        job.state.as_str().into(),
        job.condition.encode_to_vec().into(),
        job.first_branch().into(),
        job.branches.first().map_or("", |b| b.new_commit.as_str()).into(),
        branches(job),
        publish.into(),
        job.created_by.as_str().into(),
        job.create_time.into(),
        job.end_time.into(),
        settings.into(),
        job.planned_from.as_str().into(),
    ];
    ws.insert(&JOBS, values);
}

/// What a job has in the place of branches.
fn places(kind: &Kind) -> Vec<&str> {
    let Kind::Action(_, settings) = kind else { return Vec::new() };
    // A plan changes nothing: no other job waits until its branches are known.
    let any = (settings.awaits_overview && !settings.plan_only).then_some(ANY);
    any.into_iter().chain((!settings.parent.is_empty()).then_some(PARENTS)).collect()
}

fn branches(job: &Job) -> Value {
    JobBranches { branches: job.branches.clone() }.encode_to_vec().into()
}

/// Writes what is known of the branches. Only the job's own flow does that.
pub fn set_branches(ws: &mut WriteSet, rev: RevRef, job: &Job) {
    let set = [
        ("rev", rev.into()),
        ("branch", job.first_branch().into()),
        ("new_commit", job.branches.first().map_or("", |b| b.new_commit.as_str()).into()),
        ("branches", branches(job)),
        ("planned_from", job.planned_from.as_str().into()),
    ];
    ws.update_where(&JOBS, &[("job_id", job.job_id.as_str().into())], &set);
}

/// Writes which branches a job may change that was requested before these were known; later jobs on others need not wait.
pub fn set_scope(ws: &mut WriteSet, rev: RevRef, job: &Job, others: &BTreeSet<String>) {
    let own: BTreeSet<&str> = job.branches.iter().map(|b| b.branch.as_str()).collect();
    ws.delete_where(&JOB_BRANCHES, &[("job_id", job.job_id.as_str().into()), ("branch", ANY.into())]);
    for branch in others.iter().filter(|name| !own.contains(name.as_str())) {
        ws.insert(&JOB_BRANCHES, job_branch(job, branch));
    }
    if let Kind::Action(_, settings) = &job.kind {
        let known = ActionSettings { awaits_overview: false, ..settings.clone() };
        let set = [("rev", rev.into()), ("settings", known.encode_to_vec().into())];
        ws.update_where(&JOBS, &[("job_id", job.job_id.as_str().into())], &set);
    }
}

fn job_branch(job: &Job, branch: &str) -> Vec<Value> {
    vec![job.job_id.as_str().into(), branch.into(), job.repository_id.as_str().into()]
}

/// Writes the state; does nothing for a job that was removed.
pub fn set_state(
    ws: &mut WriteSet,
    rev: RevRef,
    job_id: &str,
    state: State,
    condition: &Condition,
    end: Value,
) {
    let set = [
        ("rev", rev.into()),
        ("state", state.as_str().into()),
        ("condition", condition.encode_to_vec().into()),
        ("end_time", end),
    ];
    ws.update_where(&JOBS, &[("job_id", job_id.into())], &set);
}

/// Removes a job from its table and from the views.
pub fn remove(ws: &mut WriteSet, rev: RevRef, job: &Job) {
    let id = job.job_id.as_str();
    ws.remove(&JOBS, &[id.into()]);
    ws.delete_where(&JOB_BRANCHES, &[("job_id", id.into())]);
    ws.tombstone(rev, JOB, id);
    ws.tombstone(rev, &format!("{JOB}/{}", job.repository_id), id);
}
