//! Models for agents: what the model gateway needs to know about a call, what it reports of the answers, and the test
//! call.
//!
//! No model key enters a sandbox. An agent has the address of the forwarder beside it and a token for its session;
//! the forwarder adds the proof of its sandbox, and only here the real key is put in.

mod choice;
pub(crate) mod condition;
mod ledger;
pub mod limits;
mod mcp;
mod origin;
mod probe;
pub mod wait;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use foundry_core::{Env, Error, Tasks};
use foundry_http_client::{NetworkSettings, http_client};
use foundry_model_gateway::{Gateway, Listener, Settings};

use crate::mesh_socket::listen;
use crate::shared::Shared;

pub use choice::{Chosen, agent_kind, can_use, choose, providers_of};
pub use probe::GatewayProbe;

/// The gateway's socket, alone in a directory that is mounted into sandboxes.
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("mesh").join("model.sock")
}

/// The client for calls to model providers.
///
/// # Errors
/// When the configured proxy or certificate authority cannot be used.
pub fn client(network: &NetworkSettings) -> Result<reqwest::Client, Error> {
    http_client(network)
        .map_err(|e| Error::precondition("NETWORK_UNUSABLE", "provisioner.network", e.to_string()))
}

/// Serves the model gateway to the sandboxes of this host, until its tasks are cancelled.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve(
    shared: &Arc<Shared>,
    client: reqwest::Client,
    env: &Env,
    tasks: &Tasks,
    data_dir: &Path,
) -> Result<(), Error> {
    let path = socket(data_dir);
    let listener = listen(&path).map_err(Error::internal)?;
    let settings = Settings { silence: shared.config.model_silence, ..Settings::default() };
    let servers = mcp::McpClients::new(client.clone(), &shared.config.network)?;
    let ledger = Arc::new(ledger::SessionLedger::new(shared, servers));
    let gateway = Gateway::new(ledger, client, settings, env.clone(), tasks.clone());
    // Set once per process; tests without a listener have none.
    shared.model_gateway.get_or_init(|| gateway.downgrade());
    gateway.serve(Listener::Unix(listener));
    Ok(())
}

#[cfg(test)]
mod mcp_tests;
#[cfg(test)]
mod tests;
