//! Connections of sandboxes' forwarders: HTTP/1.1 and h2c, over unix sockets and TCP.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::Tasks;
use foundry_sandbox::{Peer, Shares};
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::gateway::{Gateway, Settings};
use crate::seats::{Seat, Seats};

/// A head must come within this time, also that of the next request on a connection: forwarders keep idle connections
/// for less.
const HEAD: Duration = Duration::from_secs(60);
/// How long to wait after an accept failed for want of file descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Streams of one h2c connection.
const STREAMS: u32 = 128;
/// What one h2c stream may have under way; unread streams must not stall the others of their connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// Where connections are taken from.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket, as bound into a sandbox.
    Unix(UnixListener),
    /// A TCP port.
    Tcp(TcpListener),
}

impl Gateway {
    /// Accepts connections until the gateway's tasks are cancelled; calls in progress may then go on for
    /// `Settings::drain`. The loop belongs to those tasks. Each listener has its own limits on connections, of which no
    /// sandbox gets so many that others get none.
    pub fn serve(&self, listener: Listener) {
        let gateway = self.clone();
        self.tasks().spawn("model gateway", async move { gateway.accept(listener).await });
    }

    async fn accept(self, listener: Listener) {
        let mut seats = Seats::default();
        let stop = self.tasks().cancellation().clone();
        // A panic in a connection is that connection's failure: nobody reads these reports.
        let (connections, _) = Tasks::new();
        let shares = Shares::default();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((io, peer)) => {
                    let Settings { connections: all, connections_of_sandbox: each, .. } = *self.settings();
                    let share = peer.as_ref().map(|peer| shares.take(peer, all, each));
                    if matches!(share, Some(None)) {
                        tracing::debug!("a sandbox has as many connections to the model gateway as it may");
                        continue;
                    }
                    let gateway = self.clone();
                    let (seat, dropped) = seats.seat(self.settings(), peer.unwrap_or(Peer::Ours));
                    connections.spawn("model gateway connection", async move {
                        tokio::select! {
                            () = gateway.connection(io, seat) => {}
                            () = dropped => {}
                        }
                        drop(share);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the model gateway cannot accept connections; trying again");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        // New calls find nobody and are held by their forwarders until the next process listens.
        drop(listener);
        connections.shutdown(self.settings().drain + Duration::from_secs(1)).await;
    }

    async fn connection(self, io: Io, seat: Arc<Seat>) {
        let (stop, drain) = (self.tasks().cancellation().clone(), self.settings().drain);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let gateway = self.clone();
            request.extensions_mut().insert(Arc::clone(&seat));
            // On the heap: a call's future is large, and each connection holds one.
            Box::pin(async move { Ok::<_, Infallible>(gateway.handle(request).await) })
        });
        let builder = builder();
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                // What is not done then is cut: an agent tries again, and the next process answers it.
                tokio::time::timeout(drain, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            // Agents go away all the time.
            tracing::debug!(%error, "a connection to the model gateway ended");
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(128 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type Io = Box<dyn Stream>;

impl Listener {
    /// A connection, and whose it is where sandboxes share a socket.
    async fn accept(&self) -> io::Result<(Io, Option<Peer>)> {
        Ok(match self {
            Self::Unix(listener) => {
                let stream = listener.accept().await?.0;
                let peer = Some(Peer::of(&stream)).filter(|peer| *peer != Peer::Ours);
                (Box::new(stream), peer)
            }
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Small pieces must not wait for the peer's acknowledgements; a socket that refuses works all the same.
                let _ = stream.set_nodelay(true);
                (Box::new(stream), None)
            }
        })
    }
}
