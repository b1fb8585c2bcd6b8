//! What an agent is started with: its profile with all secrets in place.

use foundry_core::{Error, ModelProviderId, OrganizationId, ProfileId};
use foundry_proto::provisioner::v1::McpServer;
use foundry_proto::provisioner::v1::mcp_server::Transport;
use foundry_secrets::Secret;

use super::choice::provider_missing;
use super::{ModelAccess, provider_of, vault};
use crate::domain::profile::{ENVIRONMENT, MCP};
use crate::domain::{Profile, Secrets, named};
use crate::shared::Shared;
use crate::store::agent_profiles::{self, AGENT_PROFILES};

/// What an agent is started with. Debug output shows no secret.
#[derive(Clone, Debug)]
pub struct SetUp {
    /// The profile, without its secrets.
    pub profile: Profile,
    /// Its model provider; none for an agent without a model.
    pub model: Option<ModelAccess>,
    /// Variables of the agent's environment.
    pub environment: Vec<(String, Secret)>,
    /// MCP servers, each with the headers or variables that belong to it.
    pub mcp_servers: Vec<(McpServer, Vec<(String, Secret)>)>,
}

/// What an agent with this profile is started with; none without a profile.
///
/// # Errors
/// `PROFILE_NOT_FOUND` and `MODEL_PROVIDER_NOT_FOUND` when they are gone; when secrets cannot be decrypted.
pub async fn set_up(
    shared: &Shared,
    organization: &OrganizationId,
    profile_id: &str,
) -> Result<Option<SetUp>, Error> {
    if profile_id.is_empty() {
        return Ok(None);
    }
    let id: ProfileId = profile_id.parse()?;
    let found = profile_of(shared, organization, &id).await?;
    let (profile, secrets) = found.ok_or_else(|| super::choice::missing(id.as_str()))?;
    let settings = profile.settings();
    let model = match settings.model_provider_id.as_str() {
        "" => None,
        provider => {
            let id: ModelProviderId = provider.parse()?;
            let found = provider_of(shared, organization, &id).await?;
            let found = found.ok_or_else(|| provider_missing(&profile, provider))?;
            Some(ModelAccess::of(shared, &found)?)
        }
    };
    let mcp_servers = settings.mcp_servers.iter().map(|server| (server.clone(), exposed(server, &secrets)));
    Ok(Some(SetUp {
        model,
        environment: named::exposed(ENVIRONMENT, &settings.environment, &secrets),
        mcp_servers: mcp_servers.collect(),
        profile,
    }))
}

/// The MCP server of this name in a profile, with its headers or variables; none when the profile or the server is gone.
///
/// # Errors
/// When secrets cannot be decrypted.
pub async fn mcp_server(
    shared: &Shared,
    organization: &OrganizationId,
    profile_id: &str,
    name: &str,
) -> Result<Option<(McpServer, Vec<(String, Secret)>)>, Error> {
    let Ok(id) = profile_id.parse::<ProfileId>() else { return Ok(None) };
    let Some((profile, secrets)) = profile_of(shared, organization, &id).await? else { return Ok(None) };
    let found = profile.settings().mcp_servers.iter().find(|server| server.name == name);
    Ok(found.map(|server| (server.clone(), exposed(server, &secrets))))
}

async fn profile_of(
    shared: &Shared,
    organization: &OrganizationId,
    id: &ProfileId,
) -> Result<Option<(Profile, Secrets)>, Error> {
    let found = agent_profiles::find(&shared.store, id).await?;
    let Some(profile) = found.filter(|profile| profile.organization_id == *organization) else {
        return Ok(None);
    };
    let secrets = vault::open(shared, &AGENT_PROFILES, id.as_str(), profile.sealed.as_ref())?;
    Ok(Some((profile, secrets)))
}

/// The headers or variables of a server.
fn exposed(server: &McpServer, secrets: &Secrets) -> Vec<(String, Secret)> {
    let list = match &server.transport {
        Some(Transport::Stdio(stdio)) => stdio.environment.as_slice(),
        Some(Transport::Http(http) | Transport::Sse(http)) => http.headers.as_slice(),
        None => &[],
    };
    named::exposed(&format!("{MCP}{}/", server.name), list, secrets)
}
