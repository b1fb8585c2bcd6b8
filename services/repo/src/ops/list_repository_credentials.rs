//! Lists the credentials of an organization, without their secrets.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, PageRequest, PageToken, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{ListRepositoryCredentialsRequest, ListRepositoryCredentialsResponse};

use crate::context::Context;
use crate::domain::credential::Credential;
use crate::store::credentials;

/// A stored read.
///
/// # Errors
/// `NOT_FOUND` for an organization that is not the caller's.
pub async fn list_repository_credentials(
    cx: &Context,
    caller: &Caller,
    request: ListRepositoryCredentialsRequest,
) -> Result<ListRepositoryCredentialsResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let (found, next) = credentials::list(&cx.store, &organization, &page).await?;
    Ok(ListRepositoryCredentialsResponse {
        repository_credentials: found.iter().map(Credential::to_proto).collect(),
        next_page_token: PageToken::encode_next(next),
    })
}
