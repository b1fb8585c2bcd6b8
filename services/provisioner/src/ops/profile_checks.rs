//! What creating and changing an agent profile share.

use foundry_agents::Entry;
use foundry_core::{Error, ModelProviderId, Result};
use foundry_store::WriteSet;

use crate::domain::{ModelProvider, Profile};
use crate::models::{agent_kind, can_use};
use crate::profiles::{check_agent, provider_of};
use crate::shared::Shared;
use crate::store::model_providers;

/// Checks that the agent and the model provider of a profile exist, the latter also when the write set is committed, and
/// that the agent supports its API.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field, `AGENT_MODEL_UNSUITABLE`.
pub async fn check_references(shared: &Shared, ws: &mut WriteSet, profile: &Profile) -> Result<()> {
    const FIELD: &str = "settings.model_provider_id";
    let settings = profile.settings();
    check_agent(shared, "settings.agent", &settings.agent)?;
    let entry = shared.catalogue.get(&settings.agent)?;
    let wanted = settings.model_provider_id.as_str();
    if wanted.is_empty() {
        return Ok(());
    }
    let absent = || {
        Error::invalid_field(FIELD, "is not a model provider of this organization")
            .next_action("list them with `foundry model list`, or add one with `foundry model add`")
    };
    let id: ModelProviderId = wanted.parse().map_err(|_| absent())?;
    let organization = &profile.organization_id;
    let provider = provider_of(shared, organization, &id).await?.ok_or_else(absent)?;
    // An agent without a model ignores the model provider.
    if entry.needs_model() && !can_use(entry, &provider) {
        return Err(unsuitable(entry, &provider));
    }
    if !settings.model.is_empty() && !provider.offers(&settings.model) {
        let text =
            format!("is not among the models of {}: {}", provider.view.name, provider.view.models.join(", "));
        return Err(Error::invalid_field("settings.model", text));
    }
    if !provider.is_of_environment() {
        model_providers::must_exist(ws, organization, wanted);
    }
    Ok(())
}

fn unsuitable(entry: &Entry, provider: &ModelProvider) -> Error {
    let kind = agent_kind(provider.view.kind()).map_or("unsupported", |kind| kind.name());
    let kinds: Vec<&str> = entry.model_kinds().map(|kind| kind.name()).collect();
    let text = format!(
        "{} cannot use model provider {}, which is of kind {kind}; it supports: {}",
        entry.name(),
        provider.view.name,
        kinds.join(", ")
    );
    Error::precondition("AGENT_MODEL_UNSUITABLE", entry.name(), text)
        .next_action("choose a model provider of one of these kinds, or another agent")
}
