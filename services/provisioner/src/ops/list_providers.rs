//! ListProviders: the sandbox providers and what was detected about each.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::common::v1::Condition;
use foundry_proto::provisioner::v1::{ListProvidersRequest, ListProvidersResponse, Provider};

use crate::shared::Shared;

/// Lists the sandbox providers, the default first.
pub async fn list_providers(
    shared: &Shared,
    _: &Caller,
    _: ListProvidersRequest,
) -> Result<ListProvidersResponse, Error> {
    let mut providers: Vec<Provider> = shared
        .providers
        .describe()
        .map(|(name, said, error)| Provider {
            name: name.to_owned(),
            available: error.is_none(),
            isolation: said.isolation,
            network: said.network,
            limits: said.limits,
            condition: error.map(|e| Condition {
                reason: e.reason.to_owned(),
                message: e.message,
                retryable: e.retryable,
                next_action: if e.retryable {
                    "none needed: it is retried"
                } else {
                    "fix it and restart the service"
                }
                .to_owned(),
                ..Condition::default()
            }),
        })
        .collect();
    providers.sort_by_key(|p| (p.name != shared.config.default_provider, p.name.clone()));
    Ok(ListProvidersResponse { providers })
}
