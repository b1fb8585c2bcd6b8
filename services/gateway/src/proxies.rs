//! The reverse proxies in front of the gateway, and the client for which they pass on a request. Their word counts from the
//! configured addresses only: any client can send the same headers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use foundry_authn::ClientPeer;
use foundry_core::{Error, Result};
use foundry_server::PeerAddress;
use http::header::{self, HeaderMap, HeaderName};
use http::{Extensions, Request};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Most proxies that one request passes.
const MOST_HOPS: usize = 16;

/// In the extensions of a request whose client uses https, whether the gateway or a trusted proxy ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Secure;

/// How a request came here; in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    /// From its client.
    Direct,
    /// From a trusted proxy that named the client, or from a client that claims to be a proxy where those are configured.
    KnownClient,
    /// Perhaps through a proxy that is not configured, or that named nobody.
    Unknown,
}

/// The sender of a request, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    /// The client, or the nearest proxy if the client is unknown; none for a caller in this process. Limits apply to it.
    pub(crate) peer: Option<PeerAddress>,
    via: Via,
}

impl Sender {
    /// Takes it out of the request, which goes on to another service.
    pub(crate) fn take(extensions: &mut Extensions) -> Self {
        let via = extensions.remove::<Via>().unwrap_or(Via::Unknown);
        Self { peer: extensions.remove::<PeerAddress>(), via }
    }

    /// Whether the client is on this machine. A client that came through a proxy is not, whatever address it gives.
    pub(crate) fn client_peer(&self) -> ClientPeer {
        match (self.via, self.peer) {
            (Via::Direct, Some(PeerAddress(address))) => ClientPeer::of_address(&address),
            _ => ClientPeer::Remote,
        }
    }

    /// The address of the client, if it is known.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let known = self.peer.filter(|_| self.via != Via::Unknown);
        known.map(|PeerAddress(address)| address.ip().to_canonical())
    }
}

/// The proxies that the gateway trusts; cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct TrustedProxies(Arc<[Network]>);

impl TrustedProxies {
    /// By the configuration.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what is no network, and for one of all addresses.
    pub(crate) fn new(networks: &[String]) -> Result<Self> {
        let parse = |text: &String| {
            Network::parse(text).map_err(|why| {
                let text = format!("`{text}` is not a network of proxies, such as 10.1.0.0/16: {why}");
                Error::invalid_field("gateway.trusted_proxies", text)
            })
        };
        Ok(Self(networks.iter().map(parse).collect::<Result<_>>()?))
    }

    /// Finds out who sent a request, and leaves that in its extensions: [`PeerAddress`] is the client from here on.
    /// `encrypted` says whether it came to the gateway itself over TLS.
    pub(crate) fn identify<B>(&self, request: &mut Request<B>, encrypted: bool) {
        let peer = request.extensions().get::<PeerAddress>().copied();
        let headers = request.headers();
        let trusted = peer.is_some_and(|PeerAddress(socket)| self.trusts(socket.ip()));
        let is_secure = trusted.then(|| scheme(headers)).flatten().unwrap_or(encrypted);
        let (client, via) = match (was_forwarded(headers), trusted) {
            // A proxy that says nothing asks for somebody it does not name, unless it is a program on this machine.
            (false, true)
                if peer.is_some_and(|PeerAddress(socket)| !socket.ip().to_canonical().is_loopback()) =>
            {
                (None, Via::Unknown)
            }
            (false, _) => (None, Via::Direct),
            (true, true) => match self.client(headers) {
                Some(client) => (Some(client), Via::KnownClient),
                None => (None, Via::Unknown),
            },
            // Where all proxies are configured, this is a client; elsewhere it may be a proxy.
            (true, false) if !self.0.is_empty() => (None, Via::KnownClient),
            (true, false) => (None, Via::Unknown),
        };
        let extensions = request.extensions_mut();
        if let Some(client) = client {
            extensions.insert(PeerAddress(SocketAddr::new(client, 0)));
        }
        if is_secure {
            extensions.insert(Secure);
        }
        extensions.insert(via);
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The right-most address that is not that of a proxy: everything to the left of it may be invented. If there are
    /// proxies only, the first of them is the client. None where a proxy named no address.
    fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let lines: Vec<&[u8]> = headers.get_all(FORWARDED_FOR).iter().map(|line| line.as_bytes()).collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
        let mut nearest = None;
        for hop in hops.take(MOST_HOPS) {
            let address = address(hop)?;
            if !self.trusts(address) {
                return Some(address);
            }
            nearest = Some(address);
        }
        nearest
    }
}

/// Whether a proxy has marked the request as forwarded, or a client did so.
fn was_forwarded(headers: &HeaderMap) -> bool {
    let marks = [header::FORWARDED, FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, REAL_IP];
    marks.iter().any(|name| headers.contains_key(name))
}

/// Whether the client of a proxy uses https; none where the proxy does not say so clearly.
fn scheme(headers: &HeaderMap) -> Option<bool> {
    let mut values = headers.get_all(FORWARDED_PROTO).iter();
    match (values.next()?.as_bytes(), values.next()) {
        (b"https", None) => Some(true),
        (b"http", None) => Some(false),
        _ => None,
    }
}

/// An address of `x-forwarded-for`, with a port or without.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    let bare = || text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = text.parse::<IpAddr>().ok();
    let ip = ip.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    let ip = ip.or_else(|| bare()?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6));
    ip.map(|ip| ip.to_canonical())
}

/// A network, by the bits that its addresses begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| "it does not begin with an address")?;
        if address != address.to_canonical() {
            return Err("write an IPv4 address as such");
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => {
                bits.parse().ok().filter(|bits| *bits <= most).ok_or("its length is not a number of bits")?
            }
        };
        if bits == 0 {
            return Err("it contains every address");
        }
        let network = Self { address, bits };
        match network.leading(address) == Some(number(address)) {
            true => Ok(network),
            false => Err("it has bits beyond its length"),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.leading(address).is_some_and(|leading| leading == number(self.address))
    }

    /// The address as a number with the leading bits only; none for the other kind of address.
    fn leading(&self, address: IpAddr) -> Option<u128> {
        let width: u32 = if self.address.is_ipv4() { 32 } else { 128 };
        let rest = width - self.bits;
        // At least one bit leads, so at most 127 are cleared.
        (address.is_ipv4() == self.address.is_ipv4()).then(|| number(address) >> rest << rest)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

#[cfg(test)]
mod tests;
