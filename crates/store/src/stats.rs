//! The counters of a store, for metrics and tests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of a store's work since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests taken from the queue.
    pub requests: u64,
    /// Transactions in which they were committed.
    pub batches: u64,
    /// Batches that had to run again one by one because one of their requests failed.
    pub one_by_one: u64,
    /// Reading statements, and writing statements outside of write sets.
    pub statements: u64,
    /// Reads on SQLite that took too long for the thread of their caller, or met a lock there.
    pub long_reads: u64,
    /// Aggregates that were read whole; see [`crate::Store::count_load`].
    pub loads: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) one_by_one: AtomicU64,
    pub(crate) statements: AtomicU64,
    pub(crate) long_reads: AtomicU64,
    pub(crate) loads: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        Stats {
            requests: self.requests.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            one_by_one: self.one_by_one.load(Ordering::Relaxed),
            statements: self.statements.load(Ordering::Relaxed),
            long_reads: self.long_reads.load(Ordering::Relaxed),
            loads: self.loads.load(Ordering::Relaxed),
        }
    }
}
