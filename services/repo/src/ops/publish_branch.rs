//! Starts a job that pushes the work of a task to a branch of the remote.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{PublishBranchRequest, PublishBranchResponse};
use foundry_service::RequestKey;
use foundry_store::Scope;

use super::publication::decide;
use crate::context::Context;

/// Writes the job; what is pushed is decided when it runs, after earlier jobs on the branch.
///
/// # Errors
/// `NOT_FOUND`; `INVALID_ARGUMENT` for a branch or a text that git does not take; `FAILED_PRECONDITION` for the default
/// branch, for a task without changes and, unless that is allowed, for one with conflicts; `RESOURCE_EXHAUSTED` for too many unfinished jobs.
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
