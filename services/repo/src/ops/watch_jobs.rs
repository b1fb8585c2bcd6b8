//! Watches the jobs of an organization, or of one repository.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::WatchJobsRequest;
use foundry_watch_hub::Granted;

use crate::context::Context;
use crate::view::jobs;

/// Authorizes the watch.
///
/// # Errors
/// `NOT_FOUND` for an organization that is not the caller's, and for a repository that is not the organization's.
pub async fn grant(cx: &Context, caller: &Caller, request: &mut WatchJobsRequest) -> Result<Granted> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let repository = match request.repository_id.as_str() {
        "" => None,
        id => Some(cx.repository(caller, id, Role::Viewer).await?),
    };
    if let Some(foreign) = repository.as_ref().filter(|r| r.organization_id != organization) {
        return Err(Error::not_found("repository", foreign.repository_id.as_str()));
    }
    let view = jobs::of(&organization, repository.as_ref().map(|r| &r.repository_id));
    Ok(Granted::of_member(view, &organization))
}
