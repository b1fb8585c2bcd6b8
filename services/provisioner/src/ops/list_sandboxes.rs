//! ListSandboxes: newest first, by pages.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, PageRequest, PageToken, SandboxId};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{ListSandboxesRequest, ListSandboxesResponse};

use crate::domain::Sandbox;
use crate::shared::Shared;
use crate::store::sandboxes;

/// Sorts after every id.
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
    let sandbox = |text: &str| text.parse::<SandboxId>().ok().map(|id| id.to_string());
    let before = page.begins_after(NEWEST.to_owned(), sandbox)?;
    let found =
        sandboxes::list(&shared.store, &organization, request.show_destroyed, &before, page.limit()).await?;
    let (found, next) = page.cut(found, |s| s.sandbox_id.to_string());
    Ok(ListSandboxesResponse {
        sandboxes: found.iter().map(Sandbox::to_proto).collect(),
        next_page_token: PageToken::encode_next(next),
    })
}
