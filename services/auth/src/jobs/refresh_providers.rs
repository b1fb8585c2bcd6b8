//! Fetches the documents of OpenID Connect providers when they are missing or an hour old. No handler waits for it.

use std::sync::Arc;

use foundry_core::Result;

use crate::auth::Auth;

pub(crate) async fn run(auth: Arc<Auth>) -> Result<()> {
    let now = auth.env.clock.now();
    for provider in auth.sign_in.providers.values() {
        if let Err(e) = provider.refresh(now).await {
            tracing::warn!(provider = provider.name, error = %e, "the documents of a provider were not fetched");
        }
    }
    Ok(())
}
