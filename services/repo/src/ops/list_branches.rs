//! Lists the branches of a mirror as of the last synchronization.

use foundry_authn::Caller;
use foundry_core::{PageRequest, PageToken, Result, Timestamp};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{ListBranchesRequest, ListBranchesResponse};

use crate::context::Context;
use crate::store::branches::{self, BranchRow};

/// A stored read.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn list_branches(
    cx: &Context,
    caller: &Caller,
    request: ListBranchesRequest,
) -> Result<ListBranchesResponse> {
    let repository = cx.repository(caller, &request.repository_id, Role::Viewer).await?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let (found, next) = branches::list(&cx.store, &repository.repository_id, &page).await?;
    Ok(ListBranchesResponse {
        branches: found.iter().map(BranchRow::to_proto).collect(),
        next_page_token: PageToken::encode_next(next),
        as_of: repository.sync_time.map(Timestamp::to_proto),
    })
}
