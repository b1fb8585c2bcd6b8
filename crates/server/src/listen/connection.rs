//! One connection from its first byte to its end.

use std::convert::Infallible;
use std::net::SocketAddr;

use futures::future::{Either, ready};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt as _;

use super::PeerAddress;
use super::flood::Guarded;
use super::gather::Turns;
use super::room::Requests;
use super::secure::{Opened, Opening};
use super::sniff::{self, Protocol};
use crate::config::Limits;
use crate::stack::Routed;
use crate::upstream::{CONNECTION_WINDOW, STREAM_WINDOW};

/// The smallest buffer that hyper accepts for HTTP/1.
const SMALLEST_BUFFER: usize = 8 << 10;

/// The steps in which a connection is ended.
pub(super) struct Ends {
    /// No connection is accepted any more. HTTP/1 sends one request after another, so an idle connection would bring
    /// the next request back here: it closes now, and a busy one takes no further request.
    pub(super) last_request: CancellationToken,
    /// GOAWAY to HTTP/2, where requests share a connection with streams that are asked to end first.
    pub(super) goaway: CancellationToken,
    /// Closes the connection, whatever is in progress.
    pub(super) cut: CancellationToken,
}

/// Serves until the peer closes or the connection is ended. `flooded` is called when it is ended for too many control
/// frames.
pub(super) async fn serve(
    (stream, opening): (TcpStream, Opening),
    peer: SocketAddr,
    service: Routed,
    limits: Limits,
    requests: Requests,
    ends: Ends,
    flooded: impl FnMut() + Unpin + Send + 'static,
) {
    let Ends { last_request, goaway, cut } = ends;
    // Small frames must not wait for acknowledgements; failure to set this is harmless.
    let _ = stream.set_nodelay(true);
    let begin = async {
        let Some(opened) = opening.open(stream).await? else { return Ok(None) };
        let Opened { reader, writer, encrypted, service } = opened;
        let spoken = sniff::speaks(reader).await?;
        Ok::<_, std::io::Error>(
            spoken.map(|(protocol, reader)| (protocol, reader, writer, (encrypted, service))),
        )
    };
    let first = tokio::select! {
        biased;
        // No request has come yet, so none is lost.
        () = last_request.cancelled() => return,
        () = cut.cancelled() => return,
        first = tokio::time::timeout(limits.header_timeout, begin) => first,
    };
    let (protocol, reader, writer, (encrypted, peer_service)) = match first {
        Ok(Ok(Some(decided))) => decided,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "connection failed"),
        Err(_) => return tracing::debug!(%peer, "connection closed: it did not begin in time"),
    };

    let (mut turns, writer) = Turns::new(writer, requests.clone());
    let io = tokio::io::join(reader, writer);

    let most = limits.header_bytes as usize;
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        if request.version() < Version::HTTP_2 && head_size(&request) > most {
            return Either::Right(ready(Ok::<_, Infallible>(too_large())));
        }
        let mut request = request.map(Body::new);
        let extensions = request.extensions_mut();
        extensions.insert(PeerAddress(peer));
        if let Some(encrypted) = encrypted {
            extensions.insert(encrypted);
        }
        if let Some(service) = &peer_service {
            extensions.insert(service.clone());
        }
        extensions.insert(requests.begin());
        Either::Left(service.clone().oneshot(request))
    });
    let builder = builder(&limits);
    let (io, leave) = match protocol {
        Protocol::Http1 => (tokio_util::either::Either::Left(io), last_request),
        Protocol::Http2 => (tokio_util::either::Either::Right(Guarded::new(io, flooded)), goaway),
    };
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    let served = async {
        tokio::select! {
            biased;
            // Requests that have already arrived are taken in first.
            ended = turns.run(connection.as_mut()) => return ended,
            () = leave.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        turns.run(connection).await
    };
    let ended = tokio::select! {
        biased;
        () = cut.cancelled() => return,
        ended = served => ended,
    };
    if let Err(error) = ended {
        // Peers disconnect all the time.
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// The size of a request's head, as HTTP/2 counts it for its own limit.
fn head_size(request: &Request<Incoming>) -> usize {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum::<usize>() + path
}

fn too_large() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Bounds request heads that are slow or never end.
        .header_read_timeout(limits.header_timeout)
        // A head that is much larger is not read to its end.
        .max_buf_size((limits.header_bytes as usize).max(SMALLEST_BUFFER))
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        // Unlimited by default.
        .max_concurrent_streams(limits.streams_per_connection)
        // A client may cancel all its open streams at once without being treated as an attacker.
        .max_pending_accept_reset_streams(usize::try_from(limits.streams_per_connection).ok())
        // Three unread streams must not stall the rest of the connection.
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // How much a stream buffers before its producer is slowed down.
        .max_send_buf_size(STREAM_WINDOW as usize)
        .max_header_list_size(limits.header_bytes)
        // A vanished peer is detected within half a minute.
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    builder
}
