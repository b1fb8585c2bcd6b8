//! MCP servers over HTTP: which session may call which, where it is, and at which addresses it may be reached.

use foundry_core::Error;
use foundry_egress::{Reach, SystemNetwork, Upstream, reach};
use foundry_http_client::{NetworkSettings, Pinned};
use foundry_model_gateway::{McpAccess, McpRefused, SandboxProof};
use foundry_proto::provisioner::v1::mcp_server::Transport;
use http::{HeaderName, Uri};
use url::Url;

use super::ledger::session_of;
use crate::profiles;
use crate::shared::Shared;

/// Calls MCP servers on behalf of sandboxes. It reaches what the sandbox itself may reach, and the hosts that the
/// operator names.
pub struct McpClients {
    freely: reqwest::Client,
    pinned: Pinned,
    upstream: Option<Upstream>,
}

impl McpClients {
    /// `freely` is the client for servers without restrictions; it reaches what this host reaches.
    ///
    /// # Errors
    /// When the configured proxy or certificate authority cannot be used.
    pub fn new(freely: reqwest::Client, network: &NetworkSettings) -> Result<Self, Error> {
        let unusable = |e: foundry_http_client::ClientError| {
            Error::precondition("NETWORK_UNUSABLE", "provisioner.network", e.to_string())
        };
        let pinned = Pinned::new(network).map_err(unusable)?;
        Ok(Self { freely, pinned, upstream: Upstream::new(network).map_err(unusable)? })
    }

    /// The server of this name in the profile of the session with this token.
    ///
    /// # Errors
    /// When there is none, or the token is not valid.
    pub async fn access(
        &self,
        shared: &Shared,
        token: &str,
        proof: Option<&SandboxProof>,
        name: &str,
    ) -> Result<McpAccess, McpRefused> {
        let unavailable = |e: Error| McpRefused::Unavailable(e.to_string());
        let found = session_of(shared, token, proof).await.map_err(unavailable)?;
        let (session, sandbox) = found.ok_or(McpRefused::Token)?;
        let server = profiles::mcp_server(shared, &session.organization_id, &session.profile_id, name).await;
        let (server, values) = server.map_err(unavailable)?.ok_or(McpRefused::Unknown)?;
        let (http, events) = match server.transport {
            Some(Transport::Http(http)) => (http, false),
            Some(Transport::Sse(sse)) => (sse, true),
            Some(Transport::Stdio(_)) | None => return Err(McpRefused::Unknown),
        };
        let url: Url = http.url.parse().map_err(|e| unavailable(Error::internal(e)))?;
        let network = sandbox.facts.map(|facts| facts.network).unwrap_or_default();
        let headers = values
            .into_iter()
            .map(|(name, value)| Ok((HeaderName::try_from(name.as_str()).map_err(Error::internal)?, value)));
        let headers = headers.collect::<Result<_, Error>>().map_err(unavailable)?;
        Ok(McpAccess { session: session.session_id.to_string(), url, headers, events, network })
    }

    /// The client for a server: it reaches what the sandbox may reach; a host that the operator names is reached
    /// freely.
    ///
    /// # Errors
    /// When the server may not be reached, or its name cannot be resolved.
    pub async fn client(&self, shared: &Shared, access: &McpAccess) -> Result<reqwest::Client, McpRefused> {
        let url = &access.url;
        if named(&shared.config.mcp_hosts, url) {
            return Ok(self.freely.clone());
        }
        let unavailable = |e: Error| McpRefused::Unavailable(e.to_string());
        let address: Uri = url.as_str().parse().map_err(|e| unavailable(Error::internal(e)))?;
        let found = reach(&access.network, &address, &SystemNetwork, self.upstream.as_ref()).await;
        match found.map_err(|why| McpRefused::Unreachable(format!("{why}{ADVICE}")))? {
            Reach::Freely | Reach::Upstream => Ok(self.freely.clone()),
            Reach::At(addresses) => {
                let host = url.host_str().unwrap_or_default();
                self.pinned.at(host, addresses).map_err(|e| unavailable(Error::internal(e)))
            }
        }
    }
}

const ADVICE: &str = "; the operator can name its host and port in provisioner.mcp_hosts";

/// Whether the operator names the host and port of this URL.
fn named(hosts: &[String], url: &Url) -> bool {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
    let place = format!("{host}:{port}");
    hosts.iter().any(|named| named.eq_ignore_ascii_case(&place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_names_host_and_port_exactly() {
        let hosts = ["127.0.0.1:3845".to_owned(), "MCP.corp:443".to_owned()];
        for (url, expected) in [
            ("http://127.0.0.1:3845/mcp", true),
            ("https://mcp.corp/x", true),
            ("http://mcp.corp/x", false),
            ("http://127.0.0.1:38450/", false),
            ("http://localhost:3845/", false),
            ("https://mcp.corp.evil.example/", false),
        ] {
            assert_eq!(named(&hosts, &url.parse().unwrap()), expected, "{url}");
        }
    }
}
