//! Whether a sandbox may reach a target, and at which addresses.

use std::net::{IpAddr, SocketAddr};

use foundry_sandbox::{Allowed, Network};

use crate::address::{Kind, kind};
use crate::answer::Problem;
use crate::host_network::HostNetwork;
use crate::target::{Host, Target};
use crate::upstream::{Upstream, Via};

/// At most this many addresses of a name are tried: each may hold a file descriptor of the mesh for a while.
const MAX_ADDRESSES: usize = 6;

/// How a target is reached.
pub(crate) enum Route {
    /// At one of these addresses and no others.
    Direct(Vec<SocketAddr>),
    /// Through this proxy, which resolves the name.
    Via(Via),
}

/// Decides on a target. Resolves its name once, and checks every address.
///
/// # Errors
/// `NETWORK_REFUSED` by the policy, `NETWORK_UNREACHABLE` when the name cannot be resolved.
pub(crate) async fn route(
    network: &Network,
    target: &Target,
    host_network: &dyn HostNetwork,
    upstream: Option<&Upstream>,
) -> Result<Route, Problem> {
    let allowed = by_rules(network, target)?;
    let judged = |address| by_address(network, target, address, allowed, host_network);
    if let Host::Address(address) = target.host {
        judged(address)?;
    }
    if let Some(via) = upstream.and_then(|upstream| upstream.via(target)) {
        return Ok(Route::Via(via));
    }
    let name = match &target.host {
        Host::Address(address) => return Ok(Route::Direct(vec![SocketAddr::new(*address, target.port)])),
        Host::Name(name) => name,
    };
    let found = host_network
        .resolve(name, target.port)
        .await
        .map_err(|e| Problem::unresolved(target, &e.to_string()))?;
    let mut first = None;
    let mut good = Vec::new();
    for address in found {
        // The scope id is dropped: only a link-local address needs one, and those are never allowed.
        match judged(address.ip()) {
            Ok(()) => good.push(SocketAddr::new(address.ip(), target.port)),
            Err(problem) => first = first.or(Some(problem)),
        }
    }
    good.truncate(MAX_ADDRESSES);
    match (good.is_empty(), first) {
        (false, _) => Ok(Route::Direct(good)),
        (true, Some(problem)) => Err(problem),
        (true, None) => Err(Problem::unresolved(target, "it has no address")),
    }
}

/// Decides by the rules of the policy and the form of the name, without resolving it.
fn by_rules(network: &Network, target: &Target) -> Result<Allowed, Problem> {
    let host = target.host.to_string();
    let Network::Own { rules } = network else {
        return Err(Problem::refused(
            network,
            target,
            "a sandbox with the network of its host needs no proxy",
        ));
    };
    let allowed = rules
        .allow(&host, target.port)
        .ok_or_else(|| Problem::refused(network, target, "it is not on the allowlist"))?;
    let Host::Name(name) = &target.host else { return Ok(allowed) };
    let ends = |domain: &str| name == domain || name.strip_suffix(domain).is_some_and(|n| n.ends_with('.'));
    if ends("localhost") || ends("localhost.localdomain") {
        return Err(Problem::refused(network, target, "it is a name of this machine"));
    }
    let internal =
        !name.contains('.') || ["local", "internal", "localdomain", "home.arpa"].into_iter().any(ends);
    if allowed == Allowed::Public && internal {
        return Err(Problem::refused(network, target, "it is a name of a private network"));
    }
    Ok(allowed)
}

fn by_address(
    network: &Network,
    target: &Target,
    address: IpAddr,
    allowed: Allowed,
    host_network: &dyn HostNetwork,
) -> Result<(), Problem> {
    let what = match kind(address) {
        Kind::Never(what) => what,
        Kind::Private(what) if allowed < Allowed::Exact => what,
        Kind::Private(_) | Kind::Public if host_network.is_own(address) => "an address of this machine",
        Kind::Private(_) | Kind::Public => return Ok(()),
    };
    let is = match target.host {
        Host::Address(_) => format!("it is {what}"),
        Host::Name(_) => format!("it resolves to {address}, {what}"),
    };
    Err(Problem::refused(network, target, &is))
}
