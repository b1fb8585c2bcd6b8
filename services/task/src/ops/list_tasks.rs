//! The tasks of an organization, from its summary.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, PageRequest, PageToken, RepositoryId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{ListTasksRequest, ListTasksResponse};

use crate::context::Context;
use crate::store::summary;

/// # Errors
/// `INVALID_ARGUMENT` for a bad page or id, `NOT_FOUND` for a foreign organization.
pub async fn list_tasks(
    cx: &Context,
    caller: &Caller,
    request: ListTasksRequest,
) -> Result<ListTasksResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    if !request.repository_id.is_empty() {
        request.repository_id.parse::<RepositoryId>()?;
    }
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let (tasks, next) =
        summary::tasks(&cx.store, &organization, &request.repository_id, request.show_archived, &page)
            .await?;
    Ok(ListTasksResponse { tasks, next_page_token: PageToken::encode_next(next) })
}
