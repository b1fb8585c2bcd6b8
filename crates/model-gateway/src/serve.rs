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

use crate::connection_slots::{ConnectionSlot, ConnectionSlots};
use crate::gateway::{Gateway, Settings};

/// Time for a request head to arrive, also for the next request on the same connection: forwarders keep idle
/// connections for less.
const HEAD: Duration = Duration::from_secs(60);
/// Pause after an accept failed for lack of file descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Most concurrent streams of one h2c connection.
const STREAMS: u32 = 128;
/// Flow-control window of one h2c stream; unread streams must not stall the others of their connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// The socket on which connections are accepted.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket, as bound into a sandbox.
    Unix(UnixListener),
    /// A TCP port.
    Tcp(TcpListener),
}

impl Gateway {
    /// Accepts connections until the gateway's tasks are cancelled; calls in progress may then continue for
    /// `Settings::drain`. The loop runs on those tasks. Each listener has its own limits on connections, of which every
    /// sandbox gets a part.
    pub fn serve(&self, listener: Listener) {
        let gateway = self.clone();
        self.tasks().spawn("model gateway", async move { gateway.accept(listener).await });
    }

    async fn accept(self, listener: Listener) {
        let mut slots = ConnectionSlots::default();
        let stop = self.tasks().cancellation().clone();
        // A panic in a connection ends only that connection: nobody reads these reports.
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
                        tracing::debug!("a sandbox has reached its limit of model gateway connections");
                        continue;
                    }
                    let gateway = self.clone();
                    let (slot, dropped) = slots.open(self.settings(), peer.unwrap_or(Peer::Ours));
                    connections.spawn("model gateway connection", async move {
                        tokio::select! {
                            () = gateway.connection(io, slot) => {}
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
        // Forwarders hold new connections until the next process listens.
        drop(listener);
        connections.shutdown(self.settings().drain + Duration::from_secs(1)).await;
    }

    async fn connection(self, io: Io, slot: Arc<ConnectionSlot>) {
        let (stop, drain) = (self.tasks().cancellation().clone(), self.settings().drain);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let gateway = self.clone();
            request.extensions_mut().insert(Arc::clone(&slot));
            // Boxed: a call's future is large, and each connection holds one.
            Box::pin(async move { Ok::<_, Infallible>(gateway.handle(request).await) })
        });
        let builder = builder();
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                // The rest is cut: the agent tries again, and the next process answers.
                tokio::time::timeout(drain, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            // Agents disconnect all the time.
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
    /// Accepts a connection, with its peer where sandboxes share a socket.
    async fn accept(&self) -> io::Result<(Io, Option<Peer>)> {
        Ok(match self {
            Self::Unix(listener) => {
                let stream = listener.accept().await?.0;
                let peer = Some(Peer::of(&stream)).filter(|peer| *peer != Peer::Ours);
                (Box::new(stream), peer)
            }
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Small writes must not wait for acknowledgements; failure to set this is harmless.
                let _ = stream.set_nodelay(true);
                (Box::new(stream), None)
            }
        })
    }
}
