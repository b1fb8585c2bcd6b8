//! The world outside: names, connections, and which addresses are this machine's own.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// What the proxy needs of the world outside; the tests have another one.
#[async_trait]
pub trait Outside: Send + Sync {
    /// The addresses of a name. They are judged, and exactly these are connected to: it is asked once for a connection.
    ///
    /// # Errors
    /// What the resolver says.
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// Whether an address is one of this machine's, on which the mesh itself could listen.
    fn is_own(&self, address: IpAddr) -> bool;

    /// Connects to an address that was judged.
    ///
    /// # Errors
    /// What the system says.
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

/// Names that are looked up at the same time.
static LOOK_UPS: Semaphore = Semaphore::const_new(32);

/// This machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemOutside;

#[async_trait]
impl Outside for SystemOutside {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        // The system's look-up holds a thread until it ends, however long ago somebody stopped waiting for it; the
        // permit goes along, so that names that nobody answers for leave threads to the rest of the mesh.
        let permit = LOOK_UPS.acquire().await.map_err(io::Error::other)?;
        let name = name.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            Ok((name.as_str(), port).to_socket_addrs()?.collect())
        });
        found.await.map_err(io::Error::other)?
    }

    /// Asks the kernel's routes each time, for addresses come and go. A packet to an own address is sent from that
    /// address, and only an own address can be bound; nothing is sent. What cannot be found out counts as own.
    fn is_own(&self, address: IpAddr) -> bool {
        let any: SocketAddr =
            if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let Ok(socket) = UdpSocket::bind(any) else { return true };
        let from = socket.connect((address, 9)).and_then(|()| socket.local_addr());
        match from {
            Ok(from) if from.ip() == address => true,
            // An address that routes lead to this machine although no interface has it. Where the system lets any
            // address be bound this says nothing.
            Ok(_) => !binds_anything(address) && UdpSocket::bind((address, 0)).is_ok(),
            // There is no way to it: the connection fails, and says why.
            Err(_) => false,
        }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        // Small pieces must not wait for acknowledgements; a socket that refuses works all the same.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// Whether the system lets addresses be bound that it does not have.
fn binds_anything(like: IpAddr) -> bool {
    let version = if like.is_ipv4() { "ipv4" } else { "ipv6" };
    let setting = format!("/proc/sys/net/{version}/ip_nonlocal_bind");
    std::fs::read_to_string(setting).is_ok_and(|text| text.trim() != "0")
}

/// The pause before the next address of a host is tried beside the one that does not answer.
pub(crate) const NEXT_ADDRESS: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_addresses_of_this_machine() {
        for own in ["127.0.0.1", "127.8.9.10"] {
            assert!(SystemOutside.is_own(own.parse().unwrap()), "{own}");
        }
        assert!(!SystemOutside.is_own("192.0.2.77".parse().unwrap()));
    }
}
