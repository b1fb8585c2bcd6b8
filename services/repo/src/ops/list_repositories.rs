//! Lists the repositories of an organization.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, PageRequest, PageToken, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{ListRepositoriesRequest, ListRepositoriesResponse};

use crate::context::Context;
use crate::domain::repository::Repository;
use crate::store::repositories;

/// A stored read.
///
/// # Errors
/// `NOT_FOUND` for an organization that is not the caller's.
pub async fn list_repositories(
    cx: &Context,
    caller: &Caller,
    request: ListRepositoriesRequest,
) -> Result<ListRepositoriesResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let (found, next) = repositories::list(&cx.store, &organization, &page).await?;
    Ok(ListRepositoriesResponse {
        repositories: found.iter().map(Repository::to_proto).collect(),
        next_page_token: PageToken::encode_next(next),
    })
}
