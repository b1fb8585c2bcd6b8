//! Where a client is, which decides whether it may use the development sign-in.
//!
//! There are two sources, and no header from a client is one of them: the accept loop of a listener has the socket's
//! address, and the gateway, identified by its service token, reports where *its* client is. A request through the
//! in-process stack, without a socket and without the gateway, is remote.

use std::net::SocketAddr;

use crate::Caller;

/// Metadata in which the gateway reports where its client is: `loopback` or `remote`. The gateway removes what a client
/// sent under this name, and it is accepted only together with the gateway's own token.
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
    /// The peer at a socket's address.
    pub fn of_address(address: &SocketAddr) -> Self {
        if address.ip().to_canonical().is_loopback() { Self::Loopback } else { Self::Remote }
    }

    /// This as a value of [`CLIENT_PEER`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Remote => "remote",
        }
    }

    /// The client of a request that passed [`crate::AuthnLayer`]; `socket` is the peer address from the listener's
    /// accept loop, `None` for a call without a socket.
    pub fn of<T>(request: &tonic::Request<T>, socket: Option<SocketAddr>) -> Self {
        let extensions = request.extensions();
        if extensions.get::<Caller>().is_some_and(|c| c.is_service("gateway")) {
            let said = request.metadata().get(CLIENT_PEER).and_then(|v| v.to_str().ok());
            return if said == Some(Self::Loopback.as_str()) { Self::Loopback } else { Self::Remote };
        }
        socket.map_or(Self::Remote, |a| Self::of_address(&a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(address: &str) -> ClientPeer {
        ClientPeer::of(&tonic::Request::new(()), Some(address.parse().unwrap()))
    }

    fn through(service: Option<&str>, said: &'static str) -> ClientPeer {
        let mut request = tonic::Request::new(());
        if let Some(name) = service {
            request.extensions_mut().insert(Caller::service(name));
        }
        request.metadata_mut().insert(CLIENT_PEER, said.parse().unwrap());
        ClientPeer::of(&request, Some("10.0.0.9:1".parse().unwrap()))
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
        assert_eq!(ClientPeer::of(&tonic::Request::new(()), None), ClientPeer::Remote);
    }
}
