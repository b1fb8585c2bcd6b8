//! The watch contract, served and consumed.
//!
//! Serving: a [`Hub`] turns a [`View`] (a query by revision) into streams of frames that resume
//! by state: snapshot, deltas, bookmarks, reset, drain. Consuming: a [`Consumer`] keeps one such
//! stream alive, checks it and hands out verified events with the position after each.
//!
//! The database is the truth. Hints and the ring of encoded changes only make it fast.

mod authorization;
mod body;
mod change;
mod consumer;
mod course;
mod feed;
mod grant;
mod hub;
mod metrics;
mod observer;
pub mod oracle;
mod pace;
mod position;
mod ring;
mod snapshot;
mod state;
mod table_view;
mod view;
mod watcher;

pub use authorization::{AuthorizationEvent, StreamAuthorization, Unrestricted};
pub use change::{Change, Op, row_digest};
pub use consumer::{Backoff, Consumer, ConsumerConfig, Event, Refresh, Violation};
pub use grant::{Granted, asked, unknown_watch};
pub use hub::{FrameStream, Hub, HubConfig};
pub use metrics::WatchMetrics;
pub use observer::{Beginning, NoObserver, Observer, Reconnect};
pub use pace::Pace;
pub use position::{Fingerprint, Position};
pub use state::State;
pub use table_view::{Source, TableView};
pub use view::{Changes, View};

/// Locks a mutex whose holders never leave it half-changed.
pub(crate) fn lock<T: ?Sized>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
