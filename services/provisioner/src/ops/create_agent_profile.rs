//! CreateAgentProfile: adds a named set-up of an agent, with its secrets encrypted in its row.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, ProfileId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{
    AgentProfile as View, CreateAgentProfileRequest, CreateAgentProfileResponse,
};
use foundry_store::{Guard, WriteSet};

use super::profile_checks::check_references;
use super::{Command, audit};
use crate::domain::profile::{self, Field};
use crate::domain::{Profile, Secrets};
use crate::profiles;
use crate::shared::Shared;
use crate::store::agent_profiles::{self, AGENT_PROFILES};

/// Most agent profiles of an organization.
const MAX_PROFILES: i64 = 200;

/// Adds an agent profile.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field, `ALREADY_EXISTS` for a name that is taken, `AGENT_MODEL_UNSUITABLE`,
/// `RESOURCE_EXHAUSTED`.
pub async fn create_agent_profile(
    shared: &Shared,
    caller: &Caller,
    request: CreateAgentProfileRequest,
) -> Result<CreateAgentProfileResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Admin)?;
    let body = CreateAgentProfileRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &organization, "CreateAgentProfile", &request.request_id, &body)?;
    command
        .run(|| async {
            let now = shared.env.clock.now();
            let profile_id = ProfileId::generate(&shared.env);
            let mut view = View {
                profile_id: profile_id.to_string(),
                organization_id: organization.to_string(),
                create_time: Some(now.to_proto()),
                ..View::default()
            };
            let mut secrets = Secrets::default();
            let settings = request.settings.clone().unwrap_or_default();
            profile::apply(&mut view, &mut secrets, settings, &Field::ALL, now)?;
            let sealed = profiles::seal(shared, &AGENT_PROFILES, profile_id.as_str(), &secrets)?;
            let profile = Profile { profile_id, organization_id: organization.clone(), view, sealed };
            let name = profile.settings().name.as_str();
            if agent_profiles::find_by_name(&shared.store, &organization, name).await?.is_some() {
                return Err(Error::already_exists("agent profile", name)
                    .next_action("choose another name, or change the existing one"));
            }
            let mut ws = WriteSet::new();
            check_references(shared, &mut ws, &profile).await?;
            let ours = [("organization_id", (&organization).into())];
            ws.guard(Guard::count_below(&AGENT_PROFILES, &ours, MAX_PROFILES, "agent_profiles"));
            agent_profiles::insert(&mut ws, &profile);
            let id = profile.profile_id.as_str();
            ws.audit(audit(&organization, caller, "", "agent_profile.create", id, &request.request_id));
            Ok((ws, CreateAgentProfileResponse { profile: Some(profile.view), rev: 0 }))
        })
        .await
}
