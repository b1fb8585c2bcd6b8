//! ListAgentProfiles: by name, by pages.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, PageRequest, PageToken, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{ListAgentProfilesRequest, ListAgentProfilesResponse};

use crate::shared::Shared;
use crate::store::agent_profiles;

/// Lists the agent profiles of an organization.
///
/// # Errors
/// `NOT_FOUND`, `INVALID_ARGUMENT`.
pub async fn list_agent_profiles(
    shared: &Shared,
    caller: &Caller,
    request: ListAgentProfilesRequest,
) -> Result<ListAgentProfilesResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let after = page.begins_after(String::new(), |name| Some(name.to_owned()))?;
    let found = agent_profiles::list(&shared.store, &organization, &after, page.limit()).await?;
    let (found, next) = page.cut(found, |p| p.settings().name.clone());
    Ok(ListAgentProfilesResponse {
        profiles: found.into_iter().map(|p| p.view).collect(),
        next_page_token: PageToken::encode_next(next),
    })
}
