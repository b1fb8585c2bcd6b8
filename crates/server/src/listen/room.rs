//! The room of a listener, shared by its peers: each may hold so many connections, and where room is short, those that
//! have been idle longest without a valid credential are closed first. Otherwise idle strangers could hold it all.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::PeerAddress;
use crate::config::Limits;
use crate::telemetry::Metrics;

/// The room of one listener; cloning shares it.
#[derive(Clone)]
pub(super) struct Room(Arc<Inner>);

struct Inner {
    connections: usize,
    per_address: usize,
    per_loopback_address: usize,
    state: Mutex<State>,
    /// A connection has ended, or has become idle.
    changed: Notify,
    service: &'static str,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    next: u64,
    connections: HashMap<u64, Connection>,
    /// How many connections without a valid credential each address has.
    addresses: HashMap<IpAddr, usize>,
    /// The idle connections without a credential, by when they became idle.
    idle: BTreeMap<u64, u64>,
}

struct Connection {
    address: IpAddr,
    requests: usize,
    is_identified: bool,
    /// Its key among the idle ones.
    idle_since: Option<u64>,
    cut: CancellationToken,
}

/// Why a connection does not enter.
enum Refusal {
    /// Its address has all that it may have, and uses it.
    Address,
    /// There is no room for anybody.
    Full,
}

impl Room {
    pub(super) fn new(service: &'static str, limits: &Limits, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            connections: limits.connections.max(1),
            per_address: limits.connections_per_address,
            per_loopback_address: limits.connections_per_loopback_address,
            state: Mutex::default(),
            changed: Notify::new(),
            service,
            metrics,
        }))
    }

    /// Gives a new connection its slot, as soon as there is room; `None` when its address has too many. The token cuts
    /// the connection. Called by one task at a time.
    pub(super) async fn enter(&self, peer: PeerAddress, cut: &CancellationToken) -> Option<Slot> {
        loop {
            match self.try_enter(peer, cut) {
                Ok(slot) => return Some(slot),
                Err(Refusal::Address) => return None,
                // A change since then has left its mark here.
                Err(Refusal::Full) => self.0.changed.notified().await,
            }
        }
    }

    fn try_enter(&self, peer: PeerAddress, cut: &CancellationToken) -> Result<Slot, Refusal> {
        let inner = &*self.0;
        let mut state = self.state();
        let address = peer.network();
        let is_loopback = peer.0.ip().to_canonical().is_loopback();
        let (limit, most) = match is_loopback {
            true => ("connections_per_loopback_address", inner.per_loopback_address),
            false => ("connections_per_address", inner.per_address),
        };
        let has = state.addresses.get(&address).copied().unwrap_or_default();
        if has >= most {
            inner.metrics.refused(inner.service, limit);
            if !state.close_idle(|connection| connection.address == address) {
                return Err(Refusal::Address);
            }
        }
        if state.connections.len() >= inner.connections {
            if !state.close_idle(|_| true) {
                return Err(Refusal::Full);
            }
            inner.metrics.refused(inner.service, "connections");
        }
        let id = state.number();
        let connection =
            Connection { address, requests: 0, is_identified: false, idle_since: None, cut: cut.clone() };
        state.connections.insert(id, connection);
        *state.addresses.entry(address).or_default() += 1;
        state.becomes_idle(id);
        let (is_identified, streams) = (AtomicBool::new(false), AtomicUsize::new(0));
        let shared = Shared { room: self.clone(), id, is_identified, streams };
        Ok(Slot(Requests(Arc::new(shared))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic halfway.
        foundry_core::lock(&self.0.state)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn becomes_idle(&mut self, id: u64) {
        let since = self.number();
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.is_identified
        {
            connection.idle_since = Some(since);
            self.idle.insert(since, id);
        }
    }

    fn is_not_idle(&mut self, id: u64) {
        if let Some(since) = self.connections.get_mut(&id).and_then(|c| c.idle_since.take()) {
            self.idle.remove(&since);
        }
    }

    /// Closes the connection that has been idle longest among those of strangers that match.
    fn close_idle(&mut self, matches: impl Fn(&Connection) -> bool) -> bool {
        let found = self.idle.values().find(|id| self.connections.get(*id).is_some_and(&matches)).copied();
        let Some(closed) = found.and_then(|id| self.remove(id)) else { return false };
        tracing::debug!(address = %closed.address, "closed an idle connection without a credential to make room");
        closed.cut.cancel();
        true
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        self.is_not_idle(id);
        let removed = self.connections.remove(&id)?;
        if !removed.is_identified {
            self.leaves(removed.address);
        }
        Some(removed)
    }

    /// A connection of this address no longer counts among those of strangers.
    fn leaves(&mut self, address: IpAddr) {
        if let Some(left) = self.addresses.get_mut(&address) {
            *left -= 1;
            if *left == 0 {
                self.addresses.remove(&address);
            }
        }
    }
}

struct Shared {
    room: Room,
    id: u64,
    /// As in the state, to be read without its lock.
    is_identified: AtomicBool,
    /// How many of its requests in progress are streams.
    streams: AtomicUsize,
}

/// The slot of one connection, until it is dropped.
pub(super) struct Slot(Requests);

impl Slot {
    /// The requests of the connection.
    pub(super) fn requests(&self) -> Requests {
        self.0.clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Shared { room, id, .. } = &*self.0.0;
        room.state().remove(*id);
        room.0.changed.notify_one();
    }
}

/// Counts the requests of one connection; cloning shares it.
#[derive(Clone)]
pub(super) struct Requests(Arc<Shared>);

impl Requests {
    /// Counts a request until it is dropped.
    pub(super) fn begin(&self) -> ConnectionUse {
        let is_counted = !self.0.is_identified.load(Ordering::Relaxed);
        if is_counted {
            let mut state = self.0.room.state();
            state.is_not_idle(self.0.id);
            if let Some(connection) = state.connections.get_mut(&self.0.id) {
                connection.requests += 1;
            }
        }
        let is_stream = AtomicBool::new(false);
        ConnectionUse(Arc::new(InProgress { connection: self.clone(), is_counted, is_stream }))
    }

    /// How many streams are open.
    pub(super) fn streams(&self) -> usize {
        self.0.streams.load(Ordering::Relaxed)
    }
}

/// One request in progress on a connection, in the request's extensions; cloning shares it.
#[derive(Clone)]
pub(crate) struct ConnectionUse(Arc<InProgress>);

struct InProgress {
    connection: Requests,
    is_counted: bool,
    is_stream: AtomicBool,
}

impl ConnectionUse {
    /// The request is a stream, until it ends.
    pub(crate) fn mark_stream(&self) {
        if !self.0.is_stream.swap(true, Ordering::Relaxed) {
            self.0.connection.0.streams.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The request has a valid credential: from now on the connection is not closed to make room.
    pub(crate) fn mark_identified(&self) {
        let shared = &self.0.connection.0;
        if !shared.is_identified.swap(true, Ordering::Relaxed) {
            let mut state = shared.room.state();
            state.is_not_idle(shared.id);
            if let Some(connection) = state.connections.get_mut(&shared.id) {
                connection.is_identified = true;
                let address = connection.address;
                // Many people may share an address, that of a proxy for example. They have limits of their own.
                state.leaves(address);
            }
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let Shared { room, id, streams, .. } = &*self.connection.0;
        if self.is_stream.load(Ordering::Relaxed) {
            streams.fetch_sub(1, Ordering::Relaxed);
        }
        if !self.is_counted {
            return;
        }
        let mut state = room.state();
        let left = state.connections.get_mut(id).map(|connection| {
            connection.requests -= 1;
            connection.requests
        });
        if left == Some(0) {
            state.becomes_idle(*id);
            room.0.changed.notify_one();
        }
    }
}
