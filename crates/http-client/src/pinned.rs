//! Clients for hosts whose addresses were checked beforehand.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use reqwest::dns::{Name, Resolve, Resolving};

use crate::{CONNECT, ClientError, NetworkSettings, base};

/// The most clients kept, each with its idle connections.
const KEPT: usize = 64;

/// Makes clients that connect to given addresses of a host and to no others, whatever its name resolves to later. The
/// most recent ones are kept, to reuse their connections.
pub struct Pinned {
    tls: rustls::ClientConfig,
    kept: Mutex<VecDeque<Kept>>,
}

struct Kept {
    host: String,
    addresses: Vec<SocketAddr>,
    client: reqwest::Client,
}

impl Pinned {
    /// Uses the settings of [`crate::http_client`] except the proxy, which would resolve names itself. Reads the
    /// system's certificates.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn new(settings: &NetworkSettings) -> Result<Self, ClientError> {
        Ok(Self { tls: settings.tls()?, kept: Mutex::default() })
    }

    /// The client for a host, named as in its URL, at these addresses; their ports are ignored.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn at(&self, host: &str, mut addresses: Vec<SocketAddr>) -> Result<reqwest::Client, ClientError> {
        addresses.sort_unstable();
        // A push or removal leaves the list whole.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.iter().find(|k| k.host == host && k.addresses == addresses) {
            return Ok(found.client.clone());
        }
        let client = base(self.tls.clone())
            .connect_timeout(CONNECT)
            .dns_resolver(Nowhere)
            .resolve_to_addrs(host, &addresses)
            .build()
            .map_err(|e| ClientError::Client(e.to_string()))?;
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Kept { host: host.to_owned(), addresses, client: client.clone() });
        Ok(client)
    }
}

/// A resolver that fails for every name.
struct Nowhere;

impl Resolve for Nowhere {
    fn resolve(&self, _: Name) -> Resolving {
        let error = io::Error::new(io::ErrorKind::NotFound, "no checked address for this name");
        Box::pin(std::future::ready(Err(error.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn connects_to_the_given_addresses_whatever_the_name_leads_to() {
        let here = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = here.local_addr().unwrap();
        let pinned = Pinned::new(&NetworkSettings::default()).unwrap();
        let client = pinned.at("mcp.invalid", vec![address]).unwrap();
        let call = client.get(format!("http://mcp.invalid:{}/", address.port())).send();
        let serve = async {
            let (mut io, _) = here.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let n = io.read(&mut head).await.unwrap();
            io.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
            String::from_utf8(head[..n].to_vec()).unwrap()
        };
        let (answer, head) = tokio::join!(call, serve);
        assert_eq!(answer.unwrap().status(), 204);
        assert!(head.contains(&format!("host: mcp.invalid:{}", address.port())), "{head}");
        // Even a name that does resolve is not looked up.
        let other = format!("http://localhost:{}/", address.port());
        assert!(client.get(other).send().await.unwrap_err().is_connect());
    }
}
