//! The same decision for calls that the mesh makes on behalf of a sandbox.

use std::net::SocketAddr;

use foundry_sandbox::Network;
use http::Uri;

use crate::host_network::HostNetwork;
use crate::judge::{Route, route};
use crate::target::Target;
use crate::upstream::Upstream;

/// How an address may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Directly, as the host reaches anything else.
    Freely,
    /// At these addresses and no others.
    At(Vec<SocketAddr>),
    /// Through the operator's own proxy.
    Upstream,
}

/// How the mesh may reach an `http` or `https` address on behalf of a sandbox with this network.
///
/// # Errors
/// Why it may not, as a text for users.
pub async fn reach(
    network: &Network,
    address: &Uri,
    host_network: &dyn HostNetwork,
    upstream: Option<&Upstream>,
) -> Result<Reach, String> {
    if *network == Network::Host {
        return Ok(Reach::Freely);
    }
    let usual = if address.scheme_str() == Some("https") { 443 } else { 80 };
    let target = Target::of(address, Some(usual)).ok_or("its URL has no usable host")?;
    match route(network, &target, host_network, upstream).await {
        Ok(Route::Direct(addresses)) => Ok(Reach::At(addresses)),
        Ok(Route::Via(_)) => Ok(Reach::Upstream),
        Err(problem) => Err(problem.short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemNetwork;

    #[tokio::test]
    async fn reaches_no_more_for_a_sandbox_than_the_sandbox_itself_may() {
        let ask = async |network: &Network, address: &'static str| {
            reach(network, &Uri::from_static(address), &SystemNetwork, None).await
        };
        let public = Network::public();
        let at = |address: &str| Ok(Reach::At(vec![address.parse().unwrap()]));
        assert_eq!(ask(&public, "https://192.0.2.9/mcp").await, at("192.0.2.9:443"));
        assert_eq!(ask(&public, "http://192.0.2.9:8080/mcp").await, at("192.0.2.9:8080"));
        for address in ["http://127.0.0.1:7219/metrics", "http://169.254.169.254/", "http://10.0.0.5/mcp"] {
            let refused = ask(&public, address).await.unwrap_err();
            assert!(refused.contains("does not allow"), "{refused}");
            assert_eq!(ask(&Network::Host, address).await, Ok(Reach::Freely));
        }
        assert!(ask(&Network::none(), "https://192.0.2.9/mcp").await.unwrap_err().contains("none"));
    }
}
