//! The consuming side: one watch kept alive across servers, restarts and severed connections,
//! with every frame checked and every event carrying the position after it.

mod backoff;
mod inbox;
mod link;
mod pump;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Tasks, Timestamp};
use foundry_frame::Frame;
use foundry_proto::watch::v1::{ResetReason, WatchOptions};
use futures::Stream;
use futures::future::BoxFuture;
use prost::Message;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use crate::{Change, DEFAULT_HEARTBEAT, NoObserver, Observer, Position};
pub use backoff::Backoff;
use inbox::Inbox;
pub use link::Violation;
use pump::Pump;

/// Renews the caller's credentials after `UNAUTHENTICATED`; an error ends the consumer.
pub type Refresh = Arc<dyn Fn() -> BoxFuture<'static, Result<(), Status>> + Send + Sync>;

/// How a consumer behaves.
#[derive(Clone)]
pub struct ConsumerConfig {
    /// Name for logs and metrics: the rpc.
    pub name: &'static str,
    /// Where to go on; none = start with a snapshot.
    pub position: Option<Position>,
    /// Bookmarks wanted on a quiet stream, 5 to 30 s.
    pub heartbeat: Duration,
    /// Renews credentials; without it `UNAUTHENTICATED` is retried like a lost connection.
    pub refresh: Option<Refresh>,
    /// Told when the stream is opened again.
    pub observer: Arc<dyn Observer>,
}

impl ConsumerConfig {
    /// The defaults: from a snapshot, a heartbeat of 15 s, nothing to refresh, observed by nobody.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            position: None,
            heartbeat: DEFAULT_HEARTBEAT,
            refresh: None,
            observer: Arc::new(NoObserver),
        }
    }

    /// Goes on from a position that an earlier consumer of the same view reached.
    #[must_use]
    pub fn from_position(mut self, position: Option<Position>) -> Self {
        self.position = position.filter(|p| !p.resume_token.is_empty());
        self
    }

    /// Tells this observer when the stream is opened again.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }
}

/// What happened on a watch, in order. Apply [`Event::Snapshot`] and [`Event::Delta`], keep their
/// position with what was derived, and nothing is ever missed or applied twice.
#[derive(Clone, Debug)]
pub enum Event<T> {
    /// A stream is open.
    Connected {
        /// The serving process.
        server: String,
        /// Whether it goes on from our position.
        resumed: bool,
    },
    /// The view as a whole: replace everything with these rows (all are upserts).
    Snapshot {
        /// The rows.
        rows: Vec<Change<T>>,
        /// The position after them.
        position: Position,
    },
    /// Changes to apply together, oldest first.
    Delta {
        /// The changes.
        changes: Vec<Change<T>>,
        /// The position after them.
        position: Position,
    },
    /// Everything that the server knew was received.
    CaughtUp {
        /// The position.
        position: Position,
    },
    /// Our position was of no use; a snapshot follows. Keep showing what is there.
    Reset {
        /// Why.
        reason: ResetReason,
    },
    /// The stream ends at this time unless the permission is renewed.
    AuthExpiring {
        /// When.
        at: Timestamp,
    },
    /// The stream is gone and will be opened again.
    Disconnected {
        /// Why.
        status: Status,
        /// When.
        retry_in: Duration,
    },
}

/// One watch, kept alive until it is dropped.
///
/// A task of its own reads the stream without ever waiting for the user; what is not taken in
/// time is folded to the newest change of each key.
pub struct Consumer<T> {
    inbox: Arc<Inbox<T>>,
    _stop: DropGuard,
}

impl<T: Message + Default + 'static> Consumer<T> {
    /// Starts watching. `open` calls the `Watch*` rpc with the options given to it:
    /// `move |options| { let mut c = client.clone(); async move { Ok(c.watch_x(X { options: Some(options), … }).await?.into_inner()) } }`.
    pub fn start<O, F, S>(tasks: &Tasks, env: Env, config: ConsumerConfig, open: O) -> Self
    where
        O: Fn(WatchOptions) -> F + Send + Sync + 'static,
        F: Future<Output = Result<S, Status>> + Send + 'static,
        S: Stream<Item = Result<Frame, Status>> + Send + Unpin + 'static,
    {
        let inbox = Arc::new(Inbox::new());
        let stop = CancellationToken::new();
        let (gone, all) = (stop.clone(), tasks.cancellation().clone());
        let pump = Pump::new(env, config, open, Arc::clone(&inbox));
        let into = Arc::clone(&inbox);
        tasks.spawn("watch consumer", async move {
            tokio::select! {
                status = pump.run() => into.close(status),
                () = gone.cancelled() => {}
                () = all.cancelled() => into.close(Status::cancelled("the process stops")),
            }
        });
        Self { inbox, _stop: stop.drop_guard() }
    }

    /// The next event. May be dropped and called again.
    ///
    /// # Errors
    /// The status that no retry can mend (no permission, no such entity, a bad request, an
    /// unknown method), or `CANCELLED` when the process stops. It then stays that way.
    pub async fn next(&mut self) -> Result<Event<T>, Status> {
        self.inbox.next().await
    }
}
