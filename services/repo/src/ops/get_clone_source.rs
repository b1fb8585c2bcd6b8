//! Returns the mirror and commit from which the provisioner clones a sandbox.

use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, Result, SandboxId, TaskId};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{GetCloneSourceRequest, GetCloneSourceResponse};
use foundry_store::WriteSet;

use crate::context::Context;
use crate::domain::repository::Repository;
use crate::domain::work::State;
use crate::store::{branches, clones, works};

/// The branch as of the last synchronization, and what the task has produced before. A task whose sandbox was destroyed so
/// continues with its work; without it, the next hand-over would replace the work by nothing. The sandbox counts as having
/// a clone from now on, until `ReleaseClone`.
///
/// # Errors
/// `NOT_FOUND` for the repository or the branch; `FAILED_PRECONDITION` while there is no mirror yet, the task's work is
/// being imported, or the repository is being deleted.
pub async fn get_clone_source(
    cx: &Context,
    caller: &Caller,
    request: GetCloneSourceRequest,
) -> Result<GetCloneSourceResponse> {
    let decided = cx.store.retry_on_conflict(|| async {
        let repository = repository(cx, caller, &request).await?;
        let answer = source(cx, &repository, &request).await?;
        Ok((held(cx, &repository, &request).await?, answer))
    });
    Ok(decided.await?.1)
}

/// Records the clone, unless it was recorded before; fails if the repository has changed its state since it was read.
async fn held(cx: &Context, repository: &Repository, request: &GetCloneSourceRequest) -> Result<WriteSet> {
    let mut ws = WriteSet::new();
    if request.sandbox_id.is_empty() {
        return Ok(ws);
    }
    let (sandbox, task): (SandboxId, TaskId) = (request.sandbox_id.parse()?, request.task_id.parse()?);
    let id = &repository.repository_id;
    if !clones::is_held(&cx.store, &sandbox, id).await? {
        clones::hold(&mut ws, &sandbox, &task, repository);
    }
    Ok(ws)
}

async fn repository(cx: &Context, caller: &Caller, request: &GetCloneSourceRequest) -> Result<Repository> {
    let organization: OrganizationId = request.organization_id.parse()?;
    let repository = cx.repository(caller, &request.repository_id, Role::Viewer).await?;
    let id = repository.repository_id.as_str();
    if repository.organization_id != organization {
        return Err(Error::not_found("repository", id));
    }
    repository.require_mirror()?;
    Ok(repository)
}

async fn source(
    cx: &Context,
    repository: &Repository,
    request: &GetCloneSourceRequest,
) -> Result<GetCloneSourceResponse> {
    let id = repository.repository_id.as_str();
    let wanted =
        if request.base_branch.is_empty() { &repository.default_branch } else { &request.base_branch };
    let branch = branches::find(&cx.store, &repository.repository_id, wanted).await?;
    let branch = branch.ok_or_else(|| {
        Error::new(
            foundry_core::Code::NotFound,
            "BRANCH_NOT_FOUND",
            format!("the repository has no branch {wanted:?}"),
        )
        .next_action("choose a branch from `ListBranches`, or refresh the repository")
    })?;
    let work = match request.task_id.as_str() {
        "" => None,
        task => works::find(&cx.store, &task.parse()?).await?,
    };
    let work = work.filter(|w| {
        w.organization_id == repository.organization_id && w.repository_id == repository.repository_id
    });
    if work.as_ref().is_some_and(|w| w.state == State::Importing) {
        return Err(Error::precondition(
            "REPOSITORY_NOT_READY",
            id,
            "the earlier work of the task is being imported",
        )
        .retry_after(Duration::from_secs(1)));
    }
    let work = work.filter(|w| !w.head_commit.is_empty());
    let (base_commit, work_commit) = match work {
        Some(work) => (work.base_commit, work.head_commit),
        None => (branch.commit_id, String::new()),
    };
    Ok(GetCloneSourceResponse {
        mirror_path: cx.mirror_path(&repository.repository_id).to_string_lossy().into_owned(),
        base_branch: branch.name,
        base_commit,
        url: repository.url.clone(),
        work_commit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::import_work::import_work;
    use crate::testing::{Fixture, git, stream};

    #[tokio::test]
    async fn a_task_continues_with_its_stored_work_on_the_commit_that_it_is_based_on() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let source = |task_id: &str| {
            let request = GetCloneSourceRequest {
                organization_id: f.organization.to_string(),
                repository_id: repository.repository_id.clone(),
                task_id: task_id.to_owned(),
                ..GetCloneSourceRequest::default()
            };
            get_clone_source(&f.cx, &f.member, request)
        };
        let base = git(&f.origin, &["rev-parse", "HEAD"]);
        let fresh = source(task.as_str()).await.unwrap();
        assert_eq!((fresh.base_commit.as_str(), fresh.work_commit.as_str()), (base.as_str(), ""));

        let parts = f.work(&repository, &task, &[("new.txt", "kept\n")]);
        import_work(&f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
        assert_eq!(source(task.as_str()).await.unwrap_err().reason(), "REPOSITORY_NOT_READY");
        f.engine.run_until_idle().await.unwrap();
        let continued = source(task.as_str()).await.unwrap();
        assert_eq!(continued.base_commit, base);
        let mirror = std::path::Path::new(&continued.mirror_path);
        assert_eq!(git(mirror, &["show", &format!("{}:new.txt", continued.work_commit)]), "kept");
        assert_eq!(source("").await.unwrap().work_commit, "");
    }
}
