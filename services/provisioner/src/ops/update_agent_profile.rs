//! UpdateAgentProfile: changes the fields that the mask names, and no others.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{UpdateAgentProfileRequest, UpdateAgentProfileResponse};
use foundry_store::WriteSet;

use super::masked::{audit_of, check_rev, fields};
use super::profile_checks::check_references;
use super::{Command, profile_for};
use crate::domain::profile::{self, Field};
use crate::profiles;
use crate::shared::Shared;
use crate::store::agent_profiles::{self, AGENT_PROFILES};

/// Changes an agent profile.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field, `NOT_FOUND`, `ALREADY_EXISTS` for a name that is taken, `REVISION_CHANGED`,
/// `AGENT_MODEL_UNSUITABLE`.
pub async fn update_agent_profile(
    shared: &Shared,
    caller: &Caller,
    request: UpdateAgentProfileRequest,
) -> Result<UpdateAgentProfileResponse> {
    let id = &request.profile_id;
    let organization = profile_for(shared, caller, id, Role::Admin).await?.organization_id;
    let body = UpdateAgentProfileRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &organization, "UpdateAgentProfile", &request.request_id, &body)?;
    command
        .run(|| async {
            let fields = fields(request.update_mask.as_ref(), &Field::ALL, Field::as_str, &[])?;
            let mut profile = profile_for(shared, caller, id, Role::Admin).await?;
            let (loaded_rev, before) = (profile.view.rev, profile.settings().clone());
            check_rev(id, request.expected_rev, loaded_rev)?;
            let mut secrets = profiles::open(shared, &AGENT_PROFILES, id, profile.sealed.as_ref())?;
            let settings = request.settings.clone().unwrap_or_default();
            let now = shared.env.clock.now();
            profile::apply(&mut profile.view, &mut secrets, settings, &fields, now)?;
            profile.sealed = profiles::seal(shared, &AGENT_PROFILES, id, &secrets)?;
            let name = profile.settings().name.as_str();
            if name != before.name
                && agent_profiles::find_by_name(&shared.store, &organization, name).await?.is_some()
            {
                return Err(Error::already_exists("agent profile", name).next_action("choose another name"));
            }
            let mut ws = WriteSet::new();
            check_references(shared, &mut ws, &profile).await?;
            agent_profiles::update(&mut ws, loaded_rev, before.is_default, &profile);
            let names: Vec<_> = fields.iter().map(|f| f.as_str()).collect();
            let about = ("agent_profile.update", id.as_str(), request.request_id.as_str());
            ws.audit(audit_of(&organization, caller, about, &names));
            Ok((ws, UpdateAgentProfileResponse { profile: Some(profile.view), rev: 0 }))
        })
        .await
}
