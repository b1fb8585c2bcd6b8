//! Returns the mirror and commit from which the provisioner clones a sandbox.

use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{GetCloneSourceRequest, GetCloneSourceResponse};

use crate::context::Context;
use crate::store::branches;

/// A stored read: the branch as of the last synchronization.
///
/// # Errors
/// `NOT_FOUND` for the repository or the branch; `FAILED_PRECONDITION` while there is no mirror yet.
pub async fn get_clone_source(
    cx: &Context,
    caller: &Caller,
    request: GetCloneSourceRequest,
) -> Result<GetCloneSourceResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    let repository = cx.repository(caller, &request.repository_id, Role::Viewer).await?;
    let id = repository.repository_id.as_str();
    if repository.organization_id != organization {
        return Err(Error::not_found("repository", id));
    }
    if repository.sync_time.is_none() {
        let why = if repository.condition.message.is_empty() {
            "it is being mirrored"
        } else {
            &repository.condition.message
        };
        return Err(Error::precondition(
            "REPOSITORY_NOT_READY",
            id,
            format!("the repository has no mirror yet: {why}"),
        )
        .retry_after(Duration::from_secs(1)));
    }
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
    Ok(GetCloneSourceResponse {
        mirror_path: cx.mirror_path(&repository.repository_id).to_string_lossy().into_owned(),
        base_branch: branch.name,
        base_commit: branch.commit_id,
        url: repository.url,
    })
}
