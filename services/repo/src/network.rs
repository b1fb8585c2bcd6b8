//! The operator's proxy and certificates, for git.

use std::path::Path;

use foundry_core::{Error, Result};
use foundry_git::Network;
use foundry_http_client::{ClientError, NetworkSettings};
use foundry_secrets::Secret;

/// File of all trusted certificates, in the service's directory.
const CERTIFICATES: &str = "certificates.pem";

/// What git uses. Writes the certificates that it trusts to the service's directory: git reads one file.
///
/// # Errors
/// `NETWORK_UNUSABLE` for a setting that cannot be used.
pub fn network(settings: &NetworkSettings, dir: &Path) -> Result<Network> {
    let unusable = |e: ClientError| Error::precondition("NETWORK_UNUSABLE", "repo.network", e.to_string());
    let mut network = Network::default();
    if let Some(pem) = settings.trusted_pem().map_err(unusable)? {
        let path = dir.join(CERTIFICATES);
        std::fs::write(&path, pem).map_err(Error::internal)?;
        network = network.trusting(path);
    }
    if let Some(proxied) = settings.proxied().map_err(unusable)? {
        network = network.through(move |url| proxied.proxy_for(url).map(|proxy| Secret::new(proxy.as_str())));
    }
    Ok(network)
}
