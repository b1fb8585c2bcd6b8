//! Which agent and profile a sandbox or session is made with.

use foundry_core::{Error, ModelProviderId, OrganizationId, ProfileId};
use foundry_proto::common::v1::PermissionPolicy;

use super::provider_of;
use crate::domain::Profile;
use crate::shared::Shared;
use crate::store::agent_profiles;

/// The agent and profile to use.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Name of the agent.
    pub agent: String,
    /// The profile; none when only an agent was named.
    pub profile: Option<Profile>,
}

impl Choice {
    /// The profile's id; empty without one.
    pub fn profile_id(&self) -> String {
        self.profile.as_ref().map(|p| p.profile_id.to_string()).unwrap_or_default()
    }

    /// How permission requests are answered: as requested, otherwise by the profile.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an unknown number.
    pub fn permission_policy(&self, asked: i32) -> Result<PermissionPolicy, Error> {
        let of_profile = || self.profile.as_ref().map(|p| p.settings().permission_policy());
        match PermissionPolicy::try_from(asked) {
            Ok(PermissionPolicy::Unspecified) => Ok(match of_profile() {
                None | Some(PermissionPolicy::Unspecified) => PermissionPolicy::Ask,
                Some(policy) => policy,
            }),
            Ok(policy) => Ok(policy),
            Err(_) => Err(Error::invalid_field("permission_policy", "is not known")),
        }
    }
}

/// Chooses the agent and the profile of a request that names a profile (by id or name), an agent, or neither. Without
/// both it uses `otherwise`, the profile (by id) and agent of a sandbox, or else the organization's default profile
/// or the configured agent.
///
/// # Errors
/// `PROFILE_NOT_FOUND`, `MODEL_PROVIDER_NOT_FOUND`; `INVALID_ARGUMENT` for an agent that is not the profile's.
pub async fn choose(
    shared: &Shared,
    organization: &OrganizationId,
    profile: &str,
    agent: &str,
    otherwise: Option<(&str, &str)>,
) -> Result<Choice, Error> {
    let found = match (profile, agent, otherwise) {
        ("", "", Some(("", agent))) => return Ok(Choice { agent: agent.to_owned(), profile: None }),
        ("", "", Some((profile, _))) => Some(named(shared, organization, profile).await?),
        ("", "", None) => agent_profiles::find_default(&shared.store, organization).await?,
        ("", agent, _) => return Ok(Choice { agent: agent.to_owned(), profile: None }),
        (profile, _, _) => Some(named(shared, organization, profile).await?),
    };
    let Some(found) = found else {
        return Ok(Choice { agent: shared.config.default_agent.clone(), profile: None });
    };
    let settings = found.settings();
    if !agent.is_empty() && agent != settings.agent {
        let text = format!("is not the agent of profile {}, which is {}", settings.name, settings.agent);
        return Err(Error::invalid_field("agent", text).next_action("give only the profile"));
    }
    let provider = &settings.model_provider_id;
    if !provider.is_empty() {
        let id: ModelProviderId = provider.parse()?;
        if provider_of(shared, organization, &id).await?.is_none() {
            return Err(provider_missing(&found, provider));
        }
    }
    Ok(Choice { agent: settings.agent.clone(), profile: Some(found) })
}

/// The profile of an organization with this id or name.
async fn named(shared: &Shared, organization: &OrganizationId, wanted: &str) -> Result<Profile, Error> {
    let found = match wanted.parse::<ProfileId>() {
        Ok(id) => agent_profiles::find(&shared.store, &id).await?,
        Err(_) => agent_profiles::find_by_name(&shared.store, organization, wanted).await?,
    };
    found.filter(|profile| profile.organization_id == *organization).ok_or_else(|| missing(wanted))
}

pub(super) fn missing(wanted: &str) -> Error {
    let (shown, _) = crate::domain::head(wanted, 100);
    Error::precondition(
        "PROFILE_NOT_FOUND",
        shown,
        format!("the organization has no agent profile {shown:?}"),
    )
    .next_action("choose one from `foundry profile list`, or add it again; then retry")
}

/// The error for a profile whose model provider is gone, which can happen only to one of the environment.
pub fn provider_missing(profile: &Profile, provider: &str) -> Error {
    let text = format!("the model provider of profile {} does not exist", profile.settings().name);
    Error::precondition("MODEL_PROVIDER_NOT_FOUND", provider, text).next_action(
        "start the mesh with `foundry up --keys-from-env` and the previous variables, or give the profile another \
         model provider; then retry",
    )
}
