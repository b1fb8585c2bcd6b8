//! ListModelLimits: the limits on the use of models, with what has been used.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{ListModelLimitsRequest, ListModelLimitsResponse};

use crate::domain::model_limit::effective;
use crate::models::limits;
use crate::shared::Shared;
use crate::store::model_limits;

/// Lists the limits of an organization, or those that apply to a task.
///
/// # Errors
/// `NOT_FOUND` for an organization that is not the caller's.
pub async fn list_model_limits(
    shared: &Shared,
    caller: &Caller,
    request: ListModelLimitsRequest,
) -> Result<ListModelLimitsResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let task = request.task_id.as_str();
    let mut all = model_limits::list(&shared.store, &organization, task).await?;
    if !task.is_empty() {
        all = effective(all);
    }
    let now = shared.env.clock.now();
    let mut found = Vec::with_capacity(all.len());
    for limit in all {
        let used = limits::used(shared, &organization, task, &limit).await?;
        found.push(limit.to_proto(used, now));
    }
    Ok(ListModelLimitsResponse { limits: found })
}
