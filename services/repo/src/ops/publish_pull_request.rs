//! Starts a job that pushes the work of a task to a branch of the remote and opens its pull request.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{PublishBranchRequest, PublishPullRequestRequest, PublishPullRequestResponse};
use foundry_service::RequestKey;
use foundry_store::Scope;

use super::publication::decide;
use crate::context::Context;

/// Writes the job; no host is asked before it runs.
///
/// # Errors
/// As of a publication without a pull request; `FAILED_PRECONDITION` for a host that is no known forge, and without a
/// token for its API.
pub async fn publish_pull_request(
    cx: &Context,
    caller: &Caller,
    request: PublishPullRequestRequest,
) -> Result<PublishPullRequestResponse> {
    let found = cx.work(caller, &request.task_id, Role::Member).await?;
    let organization = found.organization_id.clone();
    let name = "PublishPullRequest";
    let key = RequestKey::new(organization.as_str(), caller, name, &request.request_id, &request)?;
    if let Some((answer, rev)) = key.first_answer::<PublishPullRequestResponse>(&cx.store).await? {
        return Ok(PublishPullRequestResponse { rev, ..answer });
    }
    let branch = branch_request(&request);
    let scope = Scope::organization(&organization);
    let decided = cx
        .store
        .retry_on_conflict(|| async {
            let (mut ws, answer) = decide(cx, caller, &branch, Some(&request)).await?;
            let answer = PublishPullRequestResponse { job: answer.job, rev: 0 };
            key.remember_create(&mut ws, &answer);
            Ok((ws, answer))
        })
        .await;
    let (answer, rev) = key.settle(&cx.store, Some(&scope), decided).await?;
    Ok(PublishPullRequestResponse { rev, ..answer })
}

/// What is requested of the branch.
fn branch_request(request: &PublishPullRequestRequest) -> PublishBranchRequest {
    PublishBranchRequest {
        request_id: request.request_id.clone(),
        task_id: request.task_id.clone(),
        to_branch: request.to_branch.clone(),
        squash: request.squash,
        message: request.message.clone(),
        force: request.force,
        plan_only: request.plan_only,
        author_name: request.author_name.clone(),
        author_email: request.author_email.clone(),
        agent: request.agent.clone(),
        expected_commit: request.expected_commit.clone(),
        keep_commits: request.keep_commits,
        allow_conflicts: request.allow_conflicts,
    }
}
