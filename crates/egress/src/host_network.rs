//! The host's resolver and network: names, connections, and which addresses are this machine's own.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// What the proxy needs of the host's network; tests replace it.
#[async_trait]
pub trait HostNetwork: Send + Sync {
    /// The addresses of a name, called once per connection: exactly the addresses that were checked are connected to.
    ///
    /// # Errors
    /// The resolver's error.
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// Whether an address is one of this machine's, on which the mesh itself could listen.
    fn is_own(&self, address: IpAddr) -> bool;

    /// Connects to an address that was checked.
    ///
    /// # Errors
    /// The system's error.
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

/// Bounds the names that are resolved at the same time.
static LOOK_UPS: Semaphore = Semaphore::const_new(32);

/// The network and resolver of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNetwork;

#[async_trait]
impl HostNetwork for SystemNetwork {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        // The system's look-up blocks a thread until it ends, even when the caller has stopped waiting. The permit
        // moves with it, so that names without an answer cannot take all threads of the mesh.
        let permit = LOOK_UPS.acquire().await.map_err(io::Error::other)?;
        let name = name.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            Ok((name.as_str(), port).to_socket_addrs()?.collect())
        });
        found.await.map_err(io::Error::other)?
    }

    /// Uses the kernel's routes each time, since addresses change. A packet to one of the machine's own addresses would
    /// be sent from that address, and only such an address can be bound; nothing is sent. An address that cannot be
    /// checked counts as own.
    fn is_own(&self, address: IpAddr) -> bool {
        let any: SocketAddr =
            if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let Ok(socket) = UdpSocket::bind(any) else { return true };
        let from = socket.connect((address, 9)).and_then(|()| socket.local_addr());
        match from {
            Ok(from) if from.ip() == address => true,
            // An address that is routed to this machine although no interface has it. Where the system lets any address
            // be bound, this check is void.
            Ok(_) => !binds_anything(address) && UdpSocket::bind((address, 0)).is_ok(),
            // There is no route: the connection will fail with the reason.
            Err(_) => false,
        }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        // Small writes must not wait for acknowledgements; failure to set this is harmless.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// Whether the system lets programs bind addresses that it does not have.
fn binds_anything(like: IpAddr) -> bool {
    let version = if like.is_ipv4() { "ipv4" } else { "ipv6" };
    let setting = format!("/proc/sys/net/{version}/ip_nonlocal_bind");
    std::fs::read_to_string(setting).is_ok_and(|text| text.trim() != "0")
}

/// The pause before the next address of a host is tried in parallel to one that does not answer.
pub(crate) const NEXT_ADDRESS: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_addresses_of_this_machine() {
        for own in ["127.0.0.1", "127.8.9.10"] {
            assert!(SystemNetwork.is_own(own.parse().unwrap()), "{own}");
        }
        assert!(!SystemNetwork.is_own("192.0.2.77".parse().unwrap()));
    }
}
