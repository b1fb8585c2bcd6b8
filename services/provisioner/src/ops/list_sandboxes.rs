//! ListSandboxes: newest first, by pages.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, PageRequest, PageToken, SandboxId};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{ListSandboxesRequest, ListSandboxesResponse};

use crate::domain::Sandbox;
use crate::shared::Shared;
use crate::store::sandboxes;

/// Above every id.
const NEWEST: &str = "sbx_~";

/// Lists the sandboxes of an organization.
pub async fn list_sandboxes(
    shared: &Shared,
    caller: &Caller,
    request: ListSandboxesRequest,
) -> Result<ListSandboxesResponse, Error> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let before = match &page.after {
        None => NEWEST.to_owned(),
        Some(token) => token
            .0
            .parse::<SandboxId>()
            .map_err(|_| Error::invalid_field("page_token", "is not a page token returned by this method"))?
            .to_string(),
    };
    let limit = page.size + 1;
    let mut found =
        sandboxes::list(&shared.store, &organization, request.show_destroyed, &before, limit).await?;
    let size = page.size as usize;
    let more = found.len() > size;
    found.truncate(size);
    let next = found.last().filter(|_| more).map(|s| PageToken(s.sandbox_id.to_string()).encode());
    Ok(ListSandboxesResponse {
        sandboxes: found.iter().map(Sandbox::to_proto).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}
