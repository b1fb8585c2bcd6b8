//! Observers of watches, for the metrics of the process.

use std::fmt::Debug;
use std::time::Duration;

use tonic::Code;

/// Observes hubs, consumers and what is derived from their events. Called in the path of streams, so it must not block.
/// A `view` is the name of the `Watch*` rpc.
pub trait Observer: Debug + Send + Sync + 'static {
    /// A hub opened a watch.
    fn opened(&self, _view: &'static str, _beginning: Beginning) {}

    /// A watch that was opened has ended.
    fn closed(&self, _view: &'static str) {}

    /// A consumer reopens its stream.
    fn reconnected(&self, _view: &'static str, _why: Reconnect) {}

    /// Reading, following or applying a view has made no progress for 10 s, since it fails with this code each time;
    /// repeated once a minute.
    fn stalled(&self, _view: &'static str, _code: Code) {}

    /// The state derived from a view was updated, which took this long with all reads and writes.
    fn updated(&self, _view: &'static str, _took: Duration) {}
}

/// How a watch started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Without a position, from a snapshot.
    New,
    /// From its position.
    Resumed,
    /// From a snapshot, since its position was not valid any more.
    Reset,
}

/// Why a consumer reopens its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// The server asked for it.
    Drained,
    /// The stream ended, or could not be opened.
    Lost(Code),
}

/// Ignores every call.
#[derive(Clone, Copy, Debug)]
pub struct NoObserver;

impl Observer for NoObserver {}
