//! GetAgentProfile: a stored read, without secrets.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{GetAgentProfileRequest, GetAgentProfileResponse};

use super::profile_for;
use crate::shared::Shared;

/// Returns an agent profile.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn get_agent_profile(
    shared: &Shared,
    caller: &Caller,
    request: GetAgentProfileRequest,
) -> Result<GetAgentProfileResponse> {
    let profile = profile_for(shared, caller, &request.profile_id, Role::Viewer).await?;
    Ok(GetAgentProfileResponse { profile: Some(profile.view) })
}
