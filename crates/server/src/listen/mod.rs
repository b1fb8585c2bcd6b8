//! A listener: its own accept loop and connections with explicit limits, HTTP/1 and h2c on one port.

mod connection;
mod dispatch;
mod flood;
mod gather;
mod room;
mod secure;
mod sniff;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use foundry_core::{Code, Error, Tasks};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use dispatch::{dispatch, routed};
pub(crate) use room::ConnectionUse;
pub use secure::Encrypted;

use crate::config::Limits;
use crate::stack::Routed;
use crate::telemetry::Metrics;
use crate::tls::Certificates;
use room::{Room, Slot};
use secure::Opening;

/// Pause after an accept failed for lack of file descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The address of the peer, in the extensions of every request that came over a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

impl PeerAddress {
    /// The address that limits apply to: that of the host; of IPv6, the network of one customer.
    pub fn network(self) -> IpAddr {
        match self.0.ip().to_canonical() {
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            ip => ip,
        }
    }
}

/// A running listener. Stopped in three steps: no new connections, GOAWAY, cut.
pub struct Listener {
    address: SocketAddr,
    accepting: CancellationToken,
    goaway: CancellationToken,
    connections: Tasks,
    open: watch::Sender<usize>,
}

struct Accepting {
    socket: TcpListener,
    service: Routed,
    limits: Limits,
    room: Room,
    opening: Opening,
    stop: CancellationToken,
    goaway: CancellationToken,
    connections: Tasks,
    open: watch::Sender<usize>,
    name: &'static str,
    metrics: Metrics,
}

/// Binds the address of a listener; clients that connect from here on wait until it is started.
///
/// # Errors
/// `ADDRESS_UNAVAILABLE`.
pub(crate) async fn bind(name: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|e| unavailable(name, address, e))
}

fn unavailable(name: &'static str, address: SocketAddr, source: std::io::Error) -> Error {
    // The operator who starts the process needs the cause in the text.
    let message = format!("{name} cannot listen on {address}: {source}");
    Error::new(Code::FailedPrecondition, "ADDRESS_UNAVAILABLE", message)
        .caused_by(source)
        .next_action("stop the process that is using the address, or configure another one")
}

impl Listener {
    /// Starts to accept, over TLS if there are certificates, with the loop on `tasks`.
    pub(crate) fn start(
        name: &'static str,
        socket: TcpListener,
        service: Routed,
        limits: &Limits,
        certificates: Option<Certificates>,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> Result<Self, Error> {
        let address = socket.local_addr().map_err(Error::internal)?;
        // A panic in a connection ends only that connection: nobody reads these reports.
        let (connections, _) = Tasks::new();
        let listener = Self {
            address,
            accepting: tasks.cancellation().child_token(),
            goaway: CancellationToken::new(),
            connections: connections.clone(),
            open: watch::Sender::default(),
        };
        let accepting = Accepting {
            socket,
            service,
            limits: limits.clone(),
            room: Room::new(name, limits, metrics.clone()),
            opening: Opening::new(name, certificates, limits, metrics.clone()),
            stop: listener.accepting.clone(),
            goaway: listener.goaway.clone(),
            connections,
            open: listener.open.clone(),
            name,
            metrics: metrics.clone(),
        };
        tasks.spawn("accept loop", accepting.run());
        Ok(listener)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        *self.open.borrow()
    }

    /// Accepts no new connections, and no further request on those of HTTP/1; what is in progress continues.
    pub(crate) fn stop_accepting(&self) {
        self.accepting.cancel();
    }

    /// Asks every connection to take no new request and to close when it is done.
    pub(crate) fn go_away(&self) {
        self.goaway.cancel();
    }

    /// Gives connections `grace` to close after [`Listener::go_away`], then cuts them. Returns how many were cut.
    pub(crate) async fn close(&self, grace: Duration) -> usize {
        self.stop_accepting();
        self.go_away();
        let mut open = self.open.subscribe();
        // The sender is a field of `self`: the wait ends with the last connection or with the grace period.
        let ended = open.wait_for(|open| *open == 0);
        let cut = match tokio::time::timeout(grace, ended).await {
            Ok(_) => 0,
            Err(_) => self.connections(),
        };
        self.connections.shutdown(Duration::from_secs(1)).await;
        cut
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Accepting {
    async fn run(self) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let cut = self.connections.cancellation().child_token();
                    // Without room this one waits, and all others in the kernel's backlog.
                    let slot = tokio::select! {
                        biased;
                        () = self.stop.cancelled() => return,
                        slot = self.room.enter(PeerAddress(peer), &cut) => slot,
                    };
                    match slot {
                        Some(slot) => self.connect(stream, peer, slot, cut),
                        None => tracing::debug!(service = self.name, %peer, "refused: too many connections"),
                    }
                }
                Err(error) => self.survive(&error).await,
            }
        }
    }

    fn connect(&self, stream: TcpStream, peer: SocketAddr, slot: Slot, cut: CancellationToken) {
        let open = Open::count(self.open.clone(), self.metrics.clone(), self.name);
        let (name, metrics) = (self.name, self.metrics.clone());
        let flooded = move || {
            metrics.refused(name, "control_frames");
            tracing::warn!(service = name, %peer, "connection closed: too many HTTP/2 control frames");
        };
        let serve = connection::serve(
            (stream, self.opening.clone()),
            peer,
            self.service.clone(),
            self.limits.clone(),
            slot.requests(),
            connection::Ends { last_request: self.stop.clone(), goaway: self.goaway.clone(), cut },
            flooded,
        );
        self.connections.spawn("connection", async move {
            serve.await;
            drop((open, slot));
        });
    }

    /// Ignores a peer that is already gone; waits when descriptors are short, instead of spinning or exiting.
    async fn survive(&self, error: &std::io::Error) {
        use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
            return;
        }
        self.metrics.accept_failed(self.name);
        tracing::warn!(service = self.name, %error, "cannot accept connections; trying again");
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(ACCEPT_RETRY) => {}
        }
    }
}

/// Counts one open connection, also when its task panics.
struct Open {
    count: watch::Sender<usize>,
    metrics: Metrics,
    name: &'static str,
}

impl Open {
    fn count(count: watch::Sender<usize>, metrics: Metrics, name: &'static str) -> Self {
        count.send_modify(|open| *open += 1);
        metrics.connections_changed(name, 1);
        Self { count, metrics, name }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.send_modify(|open| *open -= 1);
        self.metrics.connections_changed(self.name, -1);
    }
}
