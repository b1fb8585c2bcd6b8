//! The sweeper: destroys our sandboxes at providers that the ledger does not have, or has as destroyed.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Error, SandboxId};
use foundry_sandbox::{OwnedSandbox, Provider};

use crate::domain::SandboxState;
use crate::shared::Shared;
use crate::store::sandboxes;

/// How long one destruction may take here.
const LIMIT: Duration = Duration::from_secs(60);

/// Sweeps in rounds, until the service stops.
pub async fn sweep_strangers(shared: Arc<Shared>) {
    let stop = shared.tasks.cancellation().clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.env.clock.sleep(shared.config.sweep_interval) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sweep(&shared) => {}
        }
    }
}

/// One sweep over all providers.
pub async fn sweep(shared: &Arc<Shared>) {
    for provider in shared.providers.usable() {
        let owned = tokio::select! {
            owned = provider.list_owned() => owned,
            () = shared.env.clock.sleep(LIMIT) => continue,
        };
        match owned {
            Ok(owned) => {
                for sandbox in owned {
                    if let Err(e) = examine(shared, provider, &sandbox).await {
                        tracing::warn!(sandbox = %sandbox.name, error = %e, "an unknown sandbox was not removed");
                    }
                }
            }
            Err(e) => tracing::warn!(provider = provider.name(), error = %e, "sandboxes cannot be listed"),
        }
    }
}

async fn examine(shared: &Shared, provider: &Arc<dyn Provider>, found: &OwnedSandbox) -> Result<(), Error> {
    // Names that are not of our scheme are not ours to destroy.
    let Ok(id) = found.name.as_str().parse::<SandboxId>() else { return Ok(()) };
    let known = sandboxes::find(&shared.store, &id).await?;
    let why = match known.map(|s| s.state) {
        None => "it is in no ledger",
        Some(SandboxState::Destroyed) => "it was destroyed before",
        Some(_) => return Ok(()),
    };
    let age = found.allocated_at.map(|at| shared.env.clock.now().since(at));
    if age.is_some_and(|age| age < shared.config.sweep_grace) {
        return Ok(());
    }
    tracing::warn!(sandbox = %id, why, "destroying a stray sandbox");
    tokio::select! {
        done = provider.destroy(&found.name) => done.map(drop).map_err(Error::from),
        () = shared.env.clock.sleep(LIMIT) => Err(Error::unavailable("DESTROY_TIMED_OUT", "the provider did not answer", LIMIT)),
    }
}
