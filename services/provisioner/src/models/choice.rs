//! Which model provider an agent uses: that of its profile, otherwise the first suitable one, so that a mesh with one
//! key needs no profile at all.

use foundry_agents::{Entry, ModelKind};
use foundry_core::{Error, OrganizationId};
use foundry_proto::provisioner::v1::ModelProviderKind;

use crate::domain::ModelProvider;
use crate::profiles::{ModelAccess, SetUp, set_up};
use crate::shared::Shared;
use crate::store::model_providers;

/// Most model providers of an organization that are considered.
const MAX_PROVIDERS: u32 = 100;

/// What an agent is started with.
pub struct Chosen {
    /// Its profile with all secrets in place.
    pub set_up: Option<SetUp>,
    /// Its model provider with its id; none for an agent without a model, or when none is suitable.
    pub provider: Option<(String, ModelAccess)>,
    /// The model of the profile, or else the first that its provider lists; none without either.
    pub model: Option<String>,
}

/// Chooses what the agent of an organization uses with this profile.
///
/// # Errors
/// `PROFILE_NOT_FOUND` and `MODEL_PROVIDER_NOT_FOUND` when they are gone; when secrets cannot be decrypted.
pub async fn choose(
    shared: &Shared,
    organization: &OrganizationId,
    entry: &Entry,
    profile_id: &str,
) -> Result<Chosen, Error> {
    let mut set_up = set_up(shared, organization, profile_id).await?;
    let of_profile = set_up.as_mut().and_then(|s| s.model.take());
    let named = set_up.as_ref().map(|s| s.profile.settings().clone()).unwrap_or_default();
    // An agent without a model ignores the model provider of its profile.
    let provider = match of_profile {
        Some(access) if entry.needs_model() => Some((named.model_provider_id.clone(), access)),
        None if entry.needs_model() => suitable(shared, organization, entry).await?,
        _ => None,
    };
    let listed = provider.as_ref().and_then(|(_, access)| access.models.first().cloned());
    let model = Some(named.model).filter(|m| !m.is_empty()).or(listed);
    Ok(Chosen { set_up, provider, model })
}

/// The first model provider that the agent can use: from the environment, then the organization's own by name.
async fn suitable(
    shared: &Shared,
    organization: &OrganizationId,
    entry: &Entry,
) -> Result<Option<(String, ModelAccess)>, Error> {
    let all = providers_of(shared, organization).await?;
    let Some(found) = all.iter().find(|p| can_use(entry, p)) else { return Ok(None) };
    Ok(Some((found.model_provider_id.to_string(), ModelAccess::of(shared, found)?)))
}

/// The model providers that an organization may use, in the order in which one is chosen for an agent: those of the
/// environment, then the organization's own by name.
pub async fn providers_of(
    shared: &Shared,
    organization: &OrganizationId,
) -> Result<Vec<ModelProvider>, Error> {
    let own = model_providers::list(&shared.store, organization, "", MAX_PROVIDERS).await?;
    Ok(shared.profiles.environment.all().cloned().chain(own).collect())
}

/// Whether an agent supports the API of a model provider.
pub fn can_use(entry: &Entry, provider: &ModelProvider) -> bool {
    agent_kind(provider.view.kind()).is_some_and(|kind| entry.takes(kind))
}

/// The agent catalogue's name of a kind; none for a kind that agents cannot use.
pub fn agent_kind(kind: ModelProviderKind) -> Option<ModelKind> {
    match kind {
        ModelProviderKind::Anthropic => Some(ModelKind::Anthropic),
        ModelProviderKind::Openai => Some(ModelKind::Openai),
        ModelProviderKind::OpenaiCompatible => Some(ModelKind::OpenaiCompatible),
        ModelProviderKind::Gemini => Some(ModelKind::Gemini),
        _ => None,
    }
}
