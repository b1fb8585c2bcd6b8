//! Connections over TLS for the channels of tonic, which has no TLS of its own here.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use foundry_core::Error;
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use super::{Certificates, H2};

/// Longest time for a connection with its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to a server over TLS.
#[derive(Clone)]
pub struct Connector(Trust);

#[derive(Clone)]
enum Trust {
    /// Servers by the names of their hosts.
    Hosts(Arc<ClientConfig>),
    /// One service of the mesh.
    Service(Certificates, &'static str),
}

impl Connector {
    /// To the service of this name, as the owner of these certificates.
    pub(crate) fn of_service(certificates: Certificates, name: &'static str) -> Self {
        Self(Trust::Service(certificates, name))
    }

    fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        match &self.0 {
            Trust::Hosts(config) => Ok(Arc::clone(config)),
            // Made for each connection, with the certificates of that time.
            Trust::Service(certificates, name) => certificates.client(name).map(Arc::new),
        }
    }

    async fn connect(self, uri: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidInput, what);
        let host = uri.host().ok_or_else(|| invalid("the address has no host"))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| invalid("the host has no valid name"))?;
        let config = self.config().map_err(io::Error::other)?;
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(TlsConnector::from(config).connect(name, stream).await?))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connect = self.clone().connect(uri);
        Box::pin(async move {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the connection took too long");
            tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(late)?
        })
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

/// A channel to a server outside, whose certificate must be for its host and from an authority that `trusting` trusts.
pub fn https_channel(endpoint: &Endpoint, mut trusting: ClientConfig) -> Channel {
    trusting.alpn_protocols = vec![H2.to_vec()];
    endpoint.connect_with_connector_lazy(Connector(Trust::Hosts(Arc::new(trusting))))
}
