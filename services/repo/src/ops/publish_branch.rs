//! Starts a job that pushes the work of a task to a branch of the remote.

use foundry_authn::Caller;
use foundry_core::{Error, FlowId, JobId, Result};
use foundry_flow::NewFlow;
use foundry_git::BranchName;
use foundry_proto::common::v1::{Condition, Role};
use foundry_proto::repo::v1::{
    PublishBranchRequest, PublishBranchResponse, PublishPullRequestRequest, PublishSettings,
    PullRequestSettings,
};
use foundry_server::RequestContext;
use foundry_service::{RequestKey, audit, with_detail};
use foundry_store::{Guard, Scope, WriteSet};

use crate::broker;
use crate::context::Context;
use crate::domain::job::{Job, Kind, State, settings, unplanned};
use crate::domain::publishing::{default_branch, nothing_to_publish, without_conflicts};
use crate::domain::pull_request;
use crate::domain::repository::{Repository, State as RepositoryState};
use crate::domain::work;
use crate::flow::publish;
use crate::store::repositories::{self, REPOSITORIES};
use crate::store::{branch_overviews, jobs};

/// Most unfinished jobs of a repository.
const MAX_OPEN: i64 = 100;

/// Writes the job; what is pushed is decided when it runs, after earlier jobs on the branch.
///
/// # Errors
/// `NOT_FOUND`; `INVALID_ARGUMENT` for a branch or a text that git does not take; `FAILED_PRECONDITION` for the default
/// branch, for a task without changes and, without force, for one with conflicts; `RESOURCE_EXHAUSTED` for too many unfinished jobs.
pub async fn publish_branch(
    cx: &Context,
    caller: &Caller,
    request: PublishBranchRequest,
) -> Result<PublishBranchResponse> {
    let found = cx.work(caller, &request.task_id, Role::Member).await?;
    let organization = found.organization_id.clone();
    let key = RequestKey::new(organization.as_str(), caller, "PublishBranch", &request.request_id, &request)?;
    if let Some((answer, rev)) = key.first_answer::<PublishBranchResponse>(&cx.store).await? {
        return Ok(PublishBranchResponse { rev, ..answer });
    }
    let scope = Scope::organization(&organization);
    let decided = cx
        .store
        .retry_on_conflict(|| async {
            let (mut ws, answer) = decide(cx, caller, &request, None).await?;
            key.remember_create(&mut ws, &answer);
            Ok((ws, answer))
        })
        .await;
    let (answer, rev) = key.settle(&cx.store, Some(&scope), decided).await?;
    Ok(PublishBranchResponse { rev, ..answer })
}

/// Decides a publication, with a pull request if one is requested.
pub async fn decide(
    cx: &Context,
    caller: &Caller,
    request: &PublishBranchRequest,
    pull_request: Option<&PublishPullRequestRequest>,
) -> Result<(WriteSet, PublishBranchResponse)> {
    let work = cx.work(caller, &request.task_id, Role::Member).await?;
    let repository = repositories::find(&cx.store, &work.repository_id).await?;
    let repository = repository.ok_or_else(|| Error::not_found("repository", work.repository_id.as_str()))?;
    repository.require_mirror()?;
    let branch = if request.to_branch.is_empty() { &work.branch } else { &request.to_branch };
    if branch.is_empty() {
        return Err(Error::invalid_field("to_branch", "is needed: the branch of the task is not recorded"));
    }
    let branch = BranchName::parse(branch).map_err(|e| Error::invalid_field("to_branch", e.to_string()))?;
    if branch.as_str() == repository.default_branch {
        return Err(default_branch(branch.as_str()));
    }
    if work.state != work::State::Importing && !work.has_changes() {
        return Err(nothing_to_publish(&request.task_id));
    }
    if !request.force && !request.plan_only {
        without_conflicts(&request.task_id, &work.notices)?;
    }
    let open = jobs::open(&cx.store, &repository.repository_id).await?;
    if open >= MAX_OPEN {
        let (open, most) = (open.unsigned_abs(), MAX_OPEN.unsigned_abs());
        return Err(Error::quota("unfinished jobs", repository.repository_id.as_str(), open, most)
            .next_action("wait for jobs of the repository to end, or cancel some"));
    }
    let mut publish = settings(request, branch.as_str())?;
    if let Some(asked) = pull_request {
        publish.pull_request = Some(settings_of(cx, &repository, &branch, asked, &publish).await?);
    }
    let (job_id, flow_id) = (JobId::generate(&cx.env), FlowId::generate(&cx.env));
    let now = cx.env.clock.now();
    let job = Job {
        job_id: job_id.clone(),
        organization_id: repository.organization_id.clone(),
        repository_id: repository.repository_id.clone(),
        task_id: Some(work.task_id.clone()),
        flow_id: flow_id.clone(),
        rev: 0,
        created_rev: 0,
        state: State::Queued,
        condition: Condition {
            waiting_on: "a worker".to_owned(),
            since_time: Some(now.to_proto()),
            ..Condition::default()
        },
        branches: vec![unplanned(branch.as_str())],
        kind: Kind::Publish(publish),
        created_by: caller.actor(),
        create_time: now,
        end_time: None,
    };
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&job.organization_id));
    // Its deletion may begin at the same moment, and would not see this job.
    let id = ("repository_id", job.repository_id.as_str().into());
    let deleting = ("state", RepositoryState::Deleting.as_str().into());
    ws.guard(Guard::exists(&REPOSITORIES, std::slice::from_ref(&id)));
    ws.guard(Guard::absent(&REPOSITORIES, &[id, deleting]));
    jobs::insert(&mut ws, rev, &job, &[]);
    for old in jobs::outdated(&cx.store, &job.repository_id).await? {
        jobs::remove(&mut ws, rev, &old);
    }
    let flow = NewFlow::new(&publish::PUBLISH, flow_id, job_id.as_str(), job_id.as_str())
        .organization(&job.organization_id)
        .on_behalf_of(caller.actor())
        .traced(RequestContext::current_traceparent())
        .input(&publish::Input::of(&job))?;
    foundry_flow::enqueue(&mut ws, flow);
    let record =
        audit(&job.organization_id, caller, "", "branch.publish", job_id.as_str(), &request.request_id);
    let detail = serde_json::json!({
        "task": job.task(), "branch": branch.as_str(),
        "force": request.force, "plan_only": request.plan_only,
    });
    ws.audit(with_detail(record, detail));
    Ok((ws, PublishBranchResponse { job: Some(job.to_proto()), rev: 0 }))
}

/// The pull request that a request wants, if the host of the repository has any.
async fn settings_of(
    cx: &Context,
    repository: &Repository,
    branch: &BranchName,
    asked: &PublishPullRequestRequest,
    publish: &PublishSettings,
) -> Result<PullRequestSettings> {
    let place = broker::place(cx, repository)?;
    broker::api_credential(cx, repository, &place).await?;
    let parent = branch_overviews::parent(&cx.store, &repository.repository_id, branch.as_str()).await?;
    let base = if parent.is_empty() { &repository.default_branch } else { &parent };
    pull_request::settings(asked, publish, branch.as_str(), base)
}

#[cfg(test)]
mod tests {
    use foundry_core::TaskId;
    use foundry_store::CommitError;

    use super::*;
    use crate::ops::import_work::import_work;
    use crate::testing::{Fixture, stream};

    #[tokio::test]
    async fn a_job_is_not_written_when_the_deletion_of_the_repository_has_begun_since_it_was_decided() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let parts = f.work(&repository, &task, &[("a.txt", "a\n")]);
        import_work(&f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let request = PublishBranchRequest { task_id: task.to_string(), ..PublishBranchRequest::default() };
        let (decided, _) = decide(&f.cx, &f.member, &request, None).await.unwrap();
        let mut ws = WriteSet::new();
        let is = [("repository_id", repository.repository_id.as_str().into())];
        ws.update_where(&REPOSITORIES, &is, &[("state", RepositoryState::Deleting.as_str().into())]);
        f.cx.store.commit(ws).await.unwrap();
        let refused = f.cx.store.commit(decided).await.unwrap_err();
        assert!(matches!(refused, CommitError::GuardFailed { .. }), "{refused:?}");
    }
}
