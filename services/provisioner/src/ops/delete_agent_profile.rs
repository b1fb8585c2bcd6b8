//! DeleteAgentProfile: deletes a profile with its secrets. Running agents are not affected.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{DeleteAgentProfileRequest, DeleteAgentProfileResponse};
use foundry_store::WriteSet;

use super::{Command, audit, profile_for};
use crate::shared::Shared;
use crate::store::agent_profiles;

/// Deletes an agent profile.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn delete_agent_profile(
    shared: &Shared,
    caller: &Caller,
    request: DeleteAgentProfileRequest,
) -> Result<DeleteAgentProfileResponse> {
    const METHOD: &str = "DeleteAgentProfile";
    let id = &request.profile_id;
    let body = DeleteAgentProfileRequest { request_id: String::new(), ..request.clone() };
    if let Some(first) = Command::answered(shared, caller, METHOD, &request.request_id, &body).await? {
        return Ok(first);
    }
    let organization = profile_for(shared, caller, id, Role::Admin).await?.organization_id;
    let command = Command::new(shared, caller, &organization, METHOD, &request.request_id, &body)?;
    command
        .run(|| async {
            let profile = profile_for(shared, caller, id, Role::Admin).await?;
            let mut ws = WriteSet::new();
            agent_profiles::delete(&mut ws, &profile);
            ws.audit(audit(&organization, caller, "", "agent_profile.delete", id, &request.request_id));
            Ok((ws, DeleteAgentProfileResponse { rev: 0 }))
        })
        .await
}
