//! CreateModelProvider: adds a server of models, with its secrets encrypted in its row.

use foundry_authn::Caller;
use foundry_core::{Error, ModelProviderId, OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{
    CreateModelProviderRequest, CreateModelProviderResponse, CredentialStatus, ModelProvider as View,
    ModelProviderSettings, ModelProviderSource,
};
use foundry_store::{Guard, WriteSet};

use super::{Command, audit};
use crate::domain::model_provider::{self, Field};
use crate::domain::{ModelProvider, Secrets};
use crate::profiles;
use crate::shared::Shared;
use crate::store::model_providers::{self, MODEL_PROVIDERS};

/// Most model providers of an organization.
const MAX_PROVIDERS: i64 = 100;

/// Adds a model provider.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field, `ALREADY_EXISTS` for a name that is taken, `RESOURCE_EXHAUSTED`.
pub async fn create_model_provider(
    shared: &Shared,
    caller: &Caller,
    request: CreateModelProviderRequest,
) -> Result<CreateModelProviderResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Admin)?;
    let body = CreateModelProviderRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &organization, "CreateModelProvider", &request.request_id, &body)?;
    command
        .run(|| async {
            let settings = request.settings.clone().unwrap_or_default();
            let provider = fresh(shared, &organization, settings)?;
            let name = provider.view.name.as_str();
            if model_providers::find_by_name(&shared.store, &organization, name).await?.is_some() {
                return Err(Error::already_exists("model provider", name)
                    .next_action("choose another name, or change the existing one"));
            }
            let mut ws = WriteSet::new();
            let ours = [("organization_id", (&organization).into())];
            ws.guard(Guard::count_below(&MODEL_PROVIDERS, &ours, MAX_PROVIDERS, "model_providers"));
            model_providers::insert(&mut ws, &organization, &provider);
            let id = provider.model_provider_id.as_str();
            ws.audit(audit(&organization, caller, "", "model_provider.create", id, &request.request_id));
            Ok((ws, CreateModelProviderResponse { model_provider: Some(provider.view), rev: 0 }))
        })
        .await
}

fn fresh(
    shared: &Shared,
    organization: &OrganizationId,
    settings: ModelProviderSettings,
) -> Result<ModelProvider> {
    let now = shared.env.clock.now();
    let model_provider_id = ModelProviderId::generate(&shared.env);
    let mut view = View {
        model_provider_id: model_provider_id.to_string(),
        organization_id: organization.to_string(),
        kind: model_provider::kind(settings.kind)?.into(),
        credential: Some(CredentialStatus::default()),
        source: ModelProviderSource::Stored.into(),
        create_time: Some(now.to_proto()),
        ..View::default()
    };
    let mut secrets = Secrets::default();
    model_provider::apply(&mut view, &mut secrets, settings, &Field::ALL, now)?;
    let sealed = profiles::seal(shared, &MODEL_PROVIDERS, model_provider_id.as_str(), &secrets)?;
    Ok(ModelProvider { model_provider_id, organization_id: Some(organization.clone()), view, sealed })
}
