//! Lists the webhooks of an organization, without their secrets.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, PageRequest, PageToken, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{ListRepositoryWebhooksRequest, ListRepositoryWebhooksResponse};

use crate::context::Context;
use crate::store::webhooks;

/// A stored read.
///
/// # Errors
/// `NOT_FOUND` for an organization that is not the caller's.
pub async fn list_repository_webhooks(
    cx: &Context,
    caller: &Caller,
    request: ListRepositoryWebhooksRequest,
) -> Result<ListRepositoryWebhooksResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let (found, next) = webhooks::list(&cx.store, &organization, &page).await?;
    Ok(ListRepositoryWebhooksResponse {
        repository_webhooks: found.into_iter().map(|it| cx.refusals.added_to(it).to_proto()).collect(),
        next_page_token: PageToken::encode_next(next),
    })
}
