//! The hub's counters, for the metrics of the process.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use foundry_core::lock;

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) started: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    pub(crate) snapshot_reads: AtomicU64,
    pub(crate) resets: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) revoked: AtomicU64,
    pub(crate) drained: AtomicU64,
    pub(crate) deltas: AtomicU64,
    pub(crate) ring_hits: AtomicU64,
    pub(crate) page_reads: AtomicU64,
    pub(crate) feed_reads: AtomicU64,
    pub(crate) encoded: AtomicU64,
    views: Mutex<BTreeMap<&'static str, u64>>,
}

/// Adds one to a counter.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn opened(&self, view: &'static str) {
        *lock(&self.views).entry(view).or_default() += 1;
        count(&self.started);
    }

    pub(crate) fn closed(&self, view: &'static str) {
        if let Some(n) = lock(&self.views).get_mut(view) {
            *n = n.saturating_sub(1);
        }
    }

    pub(crate) fn read(&self, feeds: u64) -> WatchMetrics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WatchMetrics {
            watches: lock(&self.views).clone(),
            feeds,
            started: get(&self.started),
            resumed: get(&self.resumed),
            snapshots: get(&self.snapshots),
            snapshot_reads: get(&self.snapshot_reads),
            resets: get(&self.resets),
            refused: get(&self.refused),
            revoked: get(&self.revoked),
            drained: get(&self.drained),
            deltas: get(&self.deltas),
            ring_hits: get(&self.ring_hits),
            page_reads: get(&self.page_reads),
            feed_reads: get(&self.feed_reads),
            encoded: get(&self.encoded),
        }
    }
}

/// Counts since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchMetrics {
    /// Open watches by view.
    pub watches: BTreeMap<&'static str, u64>,
    /// Feeds that serve them.
    pub feeds: u64,
    /// Watches that were opened.
    pub started: u64,
    /// Of those, how many resumed from a position.
    pub resumed: u64,
    /// Snapshots that streams started to send.
    pub snapshots: u64,
    /// Snapshots read from the database.
    pub snapshot_reads: u64,
    /// Positions that were not valid any more.
    pub resets: u64,
    /// Watches refused by a limit or a drain.
    pub refused: u64,
    /// Streams ended because their permission ended.
    pub revoked: u64,
    /// Streams ended by a drain.
    pub drained: u64,
    /// Deltas that were sent, from memory or from pages.
    pub deltas: u64,
    /// Of those, how many came from memory.
    pub ring_hits: u64,
    /// Pages read from the database for watchers that lagged or resumed.
    pub page_reads: u64,
    /// Reads of new changes, one for all watchers of a view.
    pub feed_reads: u64,
    /// Changes encoded for the ring.
    pub encoded: u64,
}
