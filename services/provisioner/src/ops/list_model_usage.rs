//! ListModelUsage: the usage that the model gateway has counted.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{ListModelUsageRequest, ListModelUsageResponse};

use crate::shared::Shared;
use crate::store::model_usage;

/// Lists what a task or an organization used. For a task of another organization the list is empty.
///
/// # Errors
/// `NOT_FOUND` for an organization that is not the caller's.
pub async fn list_model_usage(
    shared: &Shared,
    caller: &Caller,
    request: ListModelUsageRequest,
) -> Result<ListModelUsageResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let usage = model_usage::list(&shared.store, &organization, &request.task_id).await?;
    Ok(ListModelUsageResponse { usage })
}
