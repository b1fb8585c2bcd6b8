//! Requests in progress: counted for the drain, named in its log, and the gate that closes at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foundry_core::Error;
use tokio::sync::Notify;

use crate::telemetry::Metrics;

/// Whether a request is a unary call or a stream; the drain waits for each in its own phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One answer, soon.
    Unary,
    /// Open until one side ends it.
    Stream,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::Stream => "stream",
        }
    }
}

/// Which requests may still enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gate {
    Open,
    UnaryOnly,
    Closed,
}

/// The requests in progress of one service; cloning shares them.
#[derive(Clone)]
pub struct Active(Arc<Shared>);

struct Shared {
    service: &'static str,
    metrics: Metrics,
    state: Mutex<State>,
    left: Notify,
}

struct State {
    gate: Gate,
    next: u64,
    unary: BTreeMap<u64, Entry>,
    streams: BTreeMap<u64, Entry>,
}

struct Entry {
    method: &'static str,
    request_id: Arc<str>,
}

impl Active {
    pub(crate) fn new(service: &'static str, metrics: Metrics) -> Self {
        let state = State { gate: Gate::Open, next: 0, unary: BTreeMap::new(), streams: BTreeMap::new() };
        Self(Arc::new(Shared { service, metrics, state: Mutex::new(state), left: Notify::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic halfway.
        foundry_core::lock(&self.0.state)
    }

    /// Counts a request until the entry is dropped; refuses it while draining.
    pub(crate) fn enter(
        &self,
        kind: Kind,
        method: &'static str,
        request_id: &Arc<str>,
    ) -> Result<ActiveEntry, Error> {
        let mut state = self.state();
        let last = if kind == Kind::Stream { Gate::Open } else { Gate::UnaryOnly };
        if state.gate > last {
            return Err(Error::unavailable(
                "DRAINING",
                format!("{} is stopping", self.0.service),
                // If there are other replicas, the next attempt reaches one of them.
                Duration::from_millis(250),
            ));
        }
        let id = state.next;
        state.next += 1;
        state.of(kind).insert(id, Entry { method, request_id: request_id.clone() });
        drop(state);
        self.0.metrics.active_changed(self.0.service, kind.label(), 1);
        Ok(ActiveEntry { active: self.clone(), kind, id })
    }

    /// How many requests of a kind are in progress.
    pub fn count(&self, kind: Kind) -> usize {
        self.state().of(kind).len()
    }

    /// Up to `most` requests in progress, as `method request_id`, for a log line.
    pub(crate) fn sample(&self, kind: Kind, most: usize) -> Vec<String> {
        let mut state = self.state();
        state.of(kind).values().take(most).map(|e| format!("{} {}", e.method, e.request_id)).collect()
    }

    /// Completes once no request of the kind is in progress.
    pub async fn idle(&self, kind: Kind) {
        loop {
            let left = self.0.left.notified();
            tokio::pin!(left);
            // Registered before the count is read, so that a request that ends in between is not missed.
            left.as_mut().enable();
            if self.count(kind) == 0 {
                return;
            }
            left.await;
        }
    }

    /// Refuses new streams from now on.
    pub(crate) fn refuse_streams(&self) {
        let mut state = self.state();
        state.gate = state.gate.max(Gate::UnaryOnly);
    }

    /// Refuses all new requests from now on.
    pub(crate) fn refuse_all(&self) {
        self.state().gate = Gate::Closed;
    }
}

impl State {
    fn of(&mut self, kind: Kind) -> &mut BTreeMap<u64, Entry> {
        match kind {
            Kind::Unary => &mut self.unary,
            Kind::Stream => &mut self.streams,
        }
    }
}

impl fmt::Debug for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Active").field("service", &self.0.service).finish_non_exhaustive()
    }
}

/// One request in progress.
#[derive(Debug)]
pub(crate) struct ActiveEntry {
    active: Active,
    kind: Kind,
    id: u64,
}

impl Drop for ActiveEntry {
    fn drop(&mut self) {
        let shared = &self.active.0;
        self.active.state().of(self.kind).remove(&self.id);
        shared.metrics.active_changed(shared.service, self.kind.label(), -1);
        shared.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn active() -> Active {
        Active::new("task", Metrics::new().unwrap())
    }

    #[tokio::test]
    async fn is_idle_once_the_last_request_of_the_kind_left() {
        let active = active();
        let unary = active.enter(Kind::Unary, "/a", &"r1".into()).unwrap();
        let _stream = active.enter(Kind::Stream, "/b", &"r2".into()).unwrap();
        assert_eq!(active.sample(Kind::Unary, 9), ["/a r1"]);
        let mut idle = Box::pin(active.idle(Kind::Unary));
        assert!(idle.as_mut().now_or_never().is_none());
        drop(unary);
        idle.await;
        assert_eq!(active.count(Kind::Stream), 1);
    }

    #[test]
    fn a_closing_gate_refuses_streams_before_unary_calls() {
        let active = active();
        let id = "r".into();
        active.refuse_streams();
        assert_eq!(active.enter(Kind::Stream, "/b", &id).unwrap_err().reason(), "DRAINING");
        assert!(active.enter(Kind::Unary, "/a", &id).is_ok());
        active.refuse_all();
        assert_eq!(active.enter(Kind::Unary, "/a", &id).unwrap_err().reason(), "DRAINING");
    }
}
