//! DeleteModelProvider: deletes a model provider with its secrets, unless a profile uses it.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{DeleteModelProviderRequest, DeleteModelProviderResponse};
use foundry_store::WriteSet;

use super::{Command, audit, model_provider_for, stored};
use crate::models::wait;
use crate::shared::Shared;
use crate::store::{agent_profiles, model_providers};

/// Deletes a model provider.
///
/// # Errors
/// `NOT_FOUND`, `MODEL_PROVIDER_IN_USE` naming the profiles, `MODEL_PROVIDER_READ_ONLY` for one of the environment.
pub async fn delete_model_provider(
    shared: &Shared,
    caller: &Caller,
    request: DeleteModelProviderRequest,
) -> Result<DeleteModelProviderResponse> {
    const METHOD: &str = "DeleteModelProvider";
    let id = &request.model_provider_id;
    let body = DeleteModelProviderRequest { request_id: String::new(), ..request.clone() };
    if let Some(first) = Command::answered(shared, caller, METHOD, &request.request_id, &body).await? {
        return Ok(first);
    }
    let found = model_provider_for(shared, caller, id, Role::Admin).await?;
    let organization = stored(&found)?.clone();
    let command = Command::new(shared, caller, &organization, METHOD, &request.request_id, &body)?;
    command
        .run(|| async {
            let provider = model_provider_for(shared, caller, id, Role::Admin).await?;
            let users = agent_profiles::names_using(&shared.store, id).await?;
            if !users.is_empty() {
                return Err(in_use(id, &provider.view.name, &users));
            }
            let mut ws = WriteSet::new();
            wait::end(&mut ws, shared, id);
            agent_profiles::none_uses(&mut ws, id);
            model_providers::delete(&mut ws, &organization, &provider);
            ws.audit(audit(&organization, caller, "", "model_provider.delete", id, &request.request_id));
            Ok((ws, DeleteModelProviderResponse { rev: 0 }))
        })
        .await
}

fn in_use(id: &str, name: &str, users: &[String]) -> Error {
    let users = users.join(", ");
    let text = format!("model provider {name} is used by these agent profiles: {users}");
    Error::precondition("MODEL_PROVIDER_IN_USE", id, text)
        .with("profiles", users)
        .next_action("change the model provider of those profiles, or delete them first")
}
