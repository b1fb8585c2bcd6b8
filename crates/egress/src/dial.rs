//! Connecting: to exactly the addresses that were checked, or to the operator's proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foundry_core::Tasks;
use futures::stream::{FuturesUnordered, StreamExt as _};
use http::{Method, Request, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1 as client;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::answer::Problem;
use crate::host_network::{HostNetwork, NEXT_ADDRESS};
use crate::target::Target;
use crate::upstream::Via;

/// How long the operator's proxy may take to answer a CONNECT: it resolves and connects itself.
const UPSTREAM_ANSWER: Duration = Duration::from_secs(30);

/// A connection of any kind.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
pub(crate) type Stream = Box<dyn Io>;

/// Connects to the first address that answers. When one is slow, the next is tried in parallel.
pub(crate) async fn direct(
    host_network: &Arc<dyn HostNetwork>,
    target: &Target,
    addresses: Vec<SocketAddr>,
    limit: Duration,
) -> Result<Stream, Problem> {
    let tried = tokio::time::timeout(limit, first(host_network, addresses)).await;
    match tried {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(e)) => Err(Problem::unconnected(target, &e.to_string())),
        Err(_) => Err(Problem::unconnected(target, &format!("no response within {} s", limit.as_secs()))),
    }
}

async fn first(host_network: &Arc<dyn HostNetwork>, addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = alternating(addresses).into_iter();
    let mut tried = FuturesUnordered::new();
    let mut last = io::Error::other("it has no address");
    loop {
        let next = waiting.next();
        if let Some(address) = next {
            tried.push(host_network.connect(address));
        } else if tried.is_empty() {
            return Err(last);
        }
        let pause = async {
            match next {
                Some(_) if waiting.len() > 0 => tokio::time::sleep(NEXT_ADDRESS).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(done) = tried.next() => match done {
                Ok(stream) => return Ok(stream),
                Err(e) => last = e,
            },
            () = pause => {}
        }
    }
}

/// One address of each IP version in turn, beginning with the resolver's first.
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let six = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == six);
    let mut out = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    loop {
        let pair = [one.next(), other.next()];
        if pair == [None, None] {
            return out;
        }
        out.extend(pair.into_iter().flatten());
    }
}

/// A connection to the operator's proxy itself.
pub(crate) async fn proxy(
    host_network: &Arc<dyn HostNetwork>,
    target: &Target,
    via: &Via,
    limit: Duration,
) -> Result<Stream, Problem> {
    let connect = async {
        // The operator configured it, so its addresses are not checked.
        let addresses = host_network.resolve(&via.host, via.port).await?;
        let stream = first(host_network, addresses).await?;
        let Some(tls) = via.tls.clone() else { return Ok(Box::new(stream) as Stream) };
        let name = ServerName::try_from(via.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(TlsConnector::from(tls).connect(name, stream).await?) as Stream)
    };
    match tokio::time::timeout(limit, connect).await {
        Ok(connected) => connected.map_err(|e: io::Error| Problem::upstream(target, &e.to_string())),
        Err(_) => Err(Problem::upstream(target, "the proxy does not respond")),
    }
}

/// A tunnel to the target through the operator's proxy.
pub(crate) async fn tunnel(
    host_network: &Arc<dyn HostNetwork>,
    target: &Target,
    via: &Via,
    limit: Duration,
    tasks: &Tasks,
) -> Result<Stream, Problem> {
    let stream = proxy(host_network, target, via, limit).await?;
    let failed = |e: &dyn std::fmt::Display| Problem::upstream(target, &e.to_string());
    let asked = async {
        let (mut sender, connection) =
            client::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
        tasks.spawn("upstream proxy", async move {
            // Errors surface at the reader of the answer.
            let _ = connection.with_upgrades().await;
        });
        let authority = target.to_string();
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(authority.parse::<Uri>().map_err(|e| failed(&e))?)
            .header(header::HOST, authority);
        if let Some(value) = &via.authorization {
            request = request.header(header::PROXY_AUTHORIZATION, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| failed(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| failed(&e))?;
        if !answer.status().is_success() {
            return Err(failed(&format!("it responded {}", answer.status())));
        }
        hyper::upgrade::on(answer).await.map_err(|e| failed(&e))
    };
    match tokio::time::timeout(UPSTREAM_ANSWER, asked).await {
        Ok(upgraded) => Ok(Box::new(TokioIo::new(upgraded?))),
        Err(_) => Err(failed(&"the proxy does not respond")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_both_versions_in_turn() {
        let all = |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|t| t.parse().unwrap()).collect() };
        let mixed = all(&["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1", "[2001:db8::3]:1"]);
        let wanted = all(&["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1", "[2001:db8::3]:1"]);
        assert_eq!(alternating(mixed), wanted);
    }
}
