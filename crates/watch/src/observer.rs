//! Who is told what watches do, for the metrics of the process.

use std::fmt::Debug;
use std::time::Duration;

use tonic::Code;

/// Observes hubs, consumers and what is derived from their events. Called in the path of streams:
/// it must not wait. A `view` is the name of the `Watch*` rpc.
pub trait Observer: Debug + Send + Sync + 'static {
    /// A hub opened a watch.
    fn opened(&self, _view: &'static str, _beginning: Beginning) {}

    /// A watch that was opened has ended.
    fn closed(&self, _view: &'static str) {}

    /// A consumer opens its stream again.
    fn reconnected(&self, _view: &'static str, _why: Reconnect) {}

    /// What a view shows was brought up to date, with all that had to be read and written for it.
    fn updated(&self, _view: &'static str, _took: Duration) {}
}

/// How a watch started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Without a position.
    Anew,
    /// From its position.
    Resumed,
    /// From a snapshot, since its position was of no use.
    Reset,
}

/// Why a consumer opens its stream again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// The server asked for it.
    Drained,
    /// The stream ended, or could not be opened.
    Lost(Code),
}

/// Tells nobody.
#[derive(Clone, Copy, Debug)]
pub struct NoObserver;

impl Observer for NoObserver {}
