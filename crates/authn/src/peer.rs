//! Where a client is, for the one question that asks: may it use the development sign-in?
//!
//! Two sources, and no header from a client is one of them: the accept loop of a listener puts the
//! socket's address into the request's extensions, and the gateway, known by its service token,
//! says where *its* client is. A request through the in-process stack without either is remote.

use std::net::SocketAddr;

use crate::Caller;

/// The address at the other end of the socket; only the accept loop of a listener inserts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// Metadata by which the gateway says where its client is: `loopback` or `remote`. It removes what
/// a client sent under this name, and it is read only together with the gateway's own token.
pub const CLIENT_PEER: &str = "foundry-client-peer";

/// Where the client of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientPeer {
    /// On this machine.
    Loopback,
    /// Elsewhere, or unknown.
    Remote,
}

impl ClientPeer {
    /// Of a socket's address.
    pub fn of_address(address: &SocketAddr) -> Self {
        if address.ip().to_canonical().is_loopback() { Self::Loopback } else { Self::Remote }
    }

    /// The value of [`CLIENT_PEER`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Remote => "remote",
        }
    }

    /// Of a request that passed [`crate::AuthnLayer`].
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let extensions = request.extensions();
        if extensions.get::<Caller>().is_some_and(|c| c.is_service("gateway")) {
            let said = request.metadata().get(CLIENT_PEER).and_then(|v| v.to_str().ok());
            return if said == Some(Self::Loopback.as_str()) { Self::Loopback } else { Self::Remote };
        }
        extensions.get::<PeerAddress>().map_or(Self::Remote, |p| Self::of_address(&p.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(address: &str) -> ClientPeer {
        let mut request = tonic::Request::new(());
        request.extensions_mut().insert(PeerAddress(address.parse().unwrap()));
        ClientPeer::of(&request)
    }

    fn through(service: Option<&str>, said: &'static str) -> ClientPeer {
        let mut request = tonic::Request::new(());
        request.extensions_mut().insert(PeerAddress("10.0.0.9:1".parse().unwrap()));
        if let Some(name) = service {
            request.extensions_mut().insert(Caller::service(name));
        }
        request.metadata_mut().insert(CLIENT_PEER, said.parse().unwrap());
        ClientPeer::of(&request)
    }

    #[test]
    fn takes_the_sockets_address_for_a_direct_call() {
        assert_eq!(direct("127.0.0.1:5000"), ClientPeer::Loopback);
        assert_eq!(direct("[::ffff:127.0.0.1]:5000"), ClientPeer::Loopback);
        assert_eq!(direct("192.168.1.4:5000"), ClientPeer::Remote);
    }

    #[test]
    fn believes_the_header_from_the_gateway_alone() {
        assert_eq!(through(Some("gateway"), "loopback"), ClientPeer::Loopback);
        assert_eq!(through(Some("gateway"), "remote"), ClientPeer::Remote);
        assert_eq!(through(Some("task"), "loopback"), ClientPeer::Remote);
        assert_eq!(through(None, "loopback"), ClientPeer::Remote);
    }

    #[test]
    fn an_unknown_peer_is_remote() {
        assert_eq!(ClientPeer::of(&tonic::Request::new(())), ClientPeer::Remote);
    }
}
