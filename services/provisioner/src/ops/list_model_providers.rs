//! ListModelProviders: those of the environment first, then the organization's own by name, by pages.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, PageRequest, PageToken, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{ListModelProvidersRequest, ListModelProvidersResponse};

use crate::shared::Shared;
use crate::store::model_providers;

/// Lists the model providers that an organization may use. Those of the environment do not count towards the page
/// size.
///
/// # Errors
/// `NOT_FOUND`, `INVALID_ARGUMENT`.
pub async fn list_model_providers(
    shared: &Shared,
    caller: &Caller,
    request: ListModelProvidersRequest,
) -> Result<ListModelProvidersResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let after = page.begins_after(String::new(), |name| Some(name.to_owned()))?;
    let found = model_providers::list(&shared.store, &organization, &after, page.limit()).await?;
    let (found, next) = page.cut(found, |p| p.view.name.clone());
    let environment = shared.profiles.environment.all().filter(|_| after.is_empty()).cloned();
    Ok(ListModelProvidersResponse {
        model_providers: environment.chain(found).map(|p| p.view).collect(),
        next_page_token: PageToken::encode_next(next),
    })
}
