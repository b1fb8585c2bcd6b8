//! The summary of an organization, from the summary rows alone.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::organization_item::Item;
use foundry_proto::task::v1::{GetOrganizationSummaryRequest, GetOrganizationSummaryResponse};
use foundry_store::Scope;

use crate::context::Context;
use crate::store::summary;

/// # Errors
/// `NOT_FOUND` for a foreign organization.
pub async fn get_organization_summary(
    cx: &Context,
    caller: &Caller,
    request: GetOrganizationSummaryRequest,
) -> Result<GetOrganizationSummaryResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    cx.followed.ensure(&organization);
    let snapshot = cx.store.snapshot().await?;
    let mut answer = GetOrganizationSummaryResponse {
        rev: snapshot.head(&Scope::organization(&organization)).await?,
        ..GetOrganizationSummaryResponse::default()
    };
    for item in summary::listed(&snapshot, &organization).await? {
        match item {
            Item::Task(task) => answer.tasks.push(task),
            Item::Repository(repository) => answer.repositories.push(repository),
        }
    }
    answer.repositories.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(answer)
}
