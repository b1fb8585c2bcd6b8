//! GetModelProvider: a stored read, without secrets.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{GetModelProviderRequest, GetModelProviderResponse};

use super::model_provider_for;
use crate::shared::Shared;

/// Returns a model provider.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn get_model_provider(
    shared: &Shared,
    caller: &Caller,
    request: GetModelProviderRequest,
) -> Result<GetModelProviderResponse> {
    let provider = model_provider_for(shared, caller, &request.model_provider_id, Role::Viewer).await?;
    Ok(GetModelProviderResponse { model_provider: Some(provider.view) })
}
