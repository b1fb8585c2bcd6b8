//! UpdateModelProvider: changes the fields that the mask names, and no others.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{UpdateModelProviderRequest, UpdateModelProviderResponse};
use foundry_store::WriteSet;

use super::masked::{audit_of, check_rev, fields};
use super::{Command, model_provider_for, stored};
use crate::domain::model_provider::{self, Field};
use crate::models::wait;
use crate::profiles;
use crate::shared::Shared;
use crate::store::model_providers::{self, MODEL_PROVIDERS};

/// Changes a model provider.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field, `NOT_FOUND`, `ALREADY_EXISTS` for a name that is taken,
/// `MODEL_PROVIDER_READ_ONLY` for one of the environment, `REVISION_CHANGED`.
pub async fn update_model_provider(
    shared: &Shared,
    caller: &Caller,
    request: UpdateModelProviderRequest,
) -> Result<UpdateModelProviderResponse> {
    let id = &request.model_provider_id;
    let found = model_provider_for(shared, caller, id, Role::Admin).await?;
    let organization = stored(&found)?.clone();
    let body = UpdateModelProviderRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &organization, "UpdateModelProvider", &request.request_id, &body)?;
    let answer = command
        .run(|| async {
            let fields = fields(request.update_mask.as_ref(), &Field::ALL, Field::as_str, &["kind"])?;
            let mut provider = model_provider_for(shared, caller, id, Role::Admin).await?;
            let (loaded_rev, old_name) = (provider.view.rev, provider.view.name.clone());
            check_rev(id, request.expected_rev, loaded_rev)?;
            let mut secrets = profiles::open(shared, &MODEL_PROVIDERS, id, provider.sealed.as_ref())?;
            let settings = request.settings.clone().unwrap_or_default();
            let now = shared.env.clock.now();
            model_provider::apply(&mut provider.view, &mut secrets, settings, &fields, now)?;
            let name = provider.view.name.as_str();
            if name != old_name
                && model_providers::find_by_name(&shared.store, &organization, name).await?.is_some()
            {
                return Err(Error::already_exists("model provider", name).next_action("choose another name"));
            }
            provider.sealed = profiles::seal(shared, &MODEL_PROVIDERS, id, &secrets)?;
            let mut ws = WriteSet::new();
            // A new key has its own quota, and any other change may help too.
            wait::end(&mut ws, shared, id);
            model_providers::update(&mut ws, &organization, loaded_rev, &provider);
            let names: Vec<_> = fields.iter().map(|f| f.as_str()).collect();
            let about = ("model_provider.update", id.as_str(), request.request_id.as_str());
            ws.audit(audit_of(&organization, caller, about, &names));
            Ok((ws, UpdateModelProviderResponse { model_provider: Some(provider.view), rev: 0 }))
        })
        .await?;
    shared.let_go(id);
    Ok(answer)
}
