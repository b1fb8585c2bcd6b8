//! The writes that begin a publication, for the ops that push the work of a task.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_git::BranchName;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{
    PublishBranchRequest, PublishBranchResponse, PublishPullRequestRequest, PublishSettings,
    PullRequestSettings,
};
use foundry_service::{audit, with_detail};
use foundry_store::WriteSet;

use crate::broker;
use crate::context::Context;
use crate::domain::job::{Kind, settings, unplanned};
use crate::domain::publishing::{default_branch, has_task, next_action, nothing_to_publish, unfinished};
use crate::domain::pull_request;
use crate::domain::repository::Repository;
use crate::domain::work::{self, Work};
use crate::flow::publish;
use crate::ops::new_job::{NewJob, begin};
use crate::store::{branch_overviews, clones, repositories};

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
    // Nothing is to be merged from the default branch into another one.
    let may_push = work.works_on(branch.as_str()) && pull_request.is_none();
    if branch.as_str() == repository.default_branch && !may_push {
        return Err(default_branch(branch.as_str()));
    }
    if work.state != work::State::Importing && !work.has_changes() {
        return Err(nothing_to_publish(&request.task_id));
    }
    let mut publish = settings(request, branch.as_str())?;
    if !publish.plan_only {
        not_refused(cx, &work, &publish, branch.as_str()).await?;
    }
    if let Some(asked) = pull_request {
        publish.pull_request = Some(settings_of(cx, &repository, &branch, asked, &publish).await?);
    }
    let new = NewJob {
        kind: Kind::Publish(publish),
        task_id: Some(work.task_id.clone()),
        branches: vec![unplanned(branch.as_str())],
        others: Vec::new(),
    };
    let mut ws = WriteSet::new();
    let job = begin(cx, caller, &mut ws, &repository, (new, &publish::PUBLISH)).await?;
    let record =
        audit(&job.organization_id, caller, "", "branch.publish", job.job_id.as_str(), &request.request_id);
    let detail = serde_json::json!({
        "task": job.task(), "branch": branch.as_str(),
        "force": request.force, "allow_conflicts": request.allow_conflicts, "plan_only": request.plan_only,
    });
    ws.audit(with_detail(record, detail));
    Ok((ws, PublishBranchResponse { job: Some(job.to_proto()), rev: 0 }))
}

/// What is known to be refused when the job runs is refused at once.
async fn not_refused(cx: &Context, work: &Work, publish: &PublishSettings, branch: &str) -> Result<()> {
    if let Some(refused) = unfinished(publish, &work.notices).into_iter().next() {
        return Err(Error::precondition(refused.reason, work.task_id.as_str(), refused.message)
            .next_action(next_action(refused.reason)));
    }
    if work.branch == branch {
        return Ok(());
    }
    let owner =
        clones::owner(&cx.store, &work.repository_id, branch, &work.task_id).await?.unwrap_or_default();
    let Some(refused) = has_task(publish, branch, Some(owner.as_str()).filter(|o| !o.is_empty())) else {
        return Ok(());
    };
    Err(Error::precondition(refused.reason, &owner, refused.message)
        .with("task_id", &owner)
        .next_action(next_action(refused.reason)))
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
    use crate::domain::repository::State as RepositoryState;
    use crate::ops::import_work::import_work;
    use crate::store::repositories::REPOSITORIES;
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
