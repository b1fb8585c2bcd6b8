//! Returns the branches of a repository with their places in their stacks.

use foundry_authn::Caller;
use foundry_core::{PageRequest, PageToken, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{GetRepositoryOverviewRequest, GetRepositoryOverviewResponse};

use crate::context::Context;
use crate::store::branch_overviews;

/// A stored read, whatever the remote does.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn get_repository_overview(
    cx: &Context,
    caller: &Caller,
    request: GetRepositoryOverviewRequest,
) -> Result<GetRepositoryOverviewResponse> {
    let repository = cx.repository(caller, &request.repository_id, Role::Viewer).await?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let (branches, next) = branch_overviews::list(&cx.store, &repository.repository_id, &page).await?;
    Ok(GetRepositoryOverviewResponse {
        repository: Some(repository.to_proto()),
        branches,
        next_page_token: PageToken::encode_next(next),
    })
}
