//! The proxy through which sandboxes with a network of their own reach the outside, and what it needs to know about
//! them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use foundry_core::{Env, Error, SandboxId, Tasks};
use foundry_egress::{Directory, Egress, Settings, SystemNetwork, Upstream};
use foundry_sandbox::{Claim, Network};

use crate::mesh_socket::listen;
use crate::shared::Shared;
use crate::store::sandboxes;

/// The proxy's socket, beside that of the model gateway.
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("mesh").join("network.sock")
}

/// Serves the proxy to the sandboxes of this host, until its tasks are cancelled.
///
/// # Errors
/// When the upstream proxy cannot be used or the socket cannot be made.
pub fn serve(shared: &Arc<Shared>, env: &Env, tasks: &Tasks, data_dir: &Path) -> Result<(), Error> {
    let upstream = Upstream::new(&shared.config.network)
        .map_err(|e| Error::precondition("NETWORK_UNUSABLE", "provisioner.network", e.to_string()))?;
    let listener = listen(&socket(data_dir)).map_err(Error::internal)?;
    let directory = Arc::new(Ledger(Arc::downgrade(shared)));
    let host_network = Arc::new(SystemNetwork);
    Egress::new(directory, host_network, upstream, Settings::default(), env.clone(), tasks.clone())
        .serve(listener);
    Ok(())
}

/// Looks up sandboxes in the ledger; does not keep the service alive.
struct Ledger(Weak<Shared>);

#[async_trait]
impl Directory for Ledger {
    async fn network(&self, claim: &Claim) -> Result<Option<Network>, String> {
        let shared = self.0.upgrade().ok_or("the service is stopping")?;
        let Ok(id) = claim.sandbox.parse::<SandboxId>() else { return Ok(None) };
        let found = sandboxes::find(&shared.store, &id).await.map_err(|e| e.to_string())?;
        let living = found.filter(|sandbox| !sandbox.state.is_ending()).and_then(|sandbox| sandbox.facts);
        let ours =
            living.filter(|facts| facts.runtime_instance == claim.instance && claim.verify(&facts.key));
        Ok(ours.map(|facts| facts.network))
    }
}
