//! The consuming side: one watch kept alive across servers, restarts and severed connections,
//! with every frame checked and every event carrying the position after it.

mod backoff;
mod inbox;
mod link;
mod pump;
mod stall;

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
use backoff::CAP as LONGEST_WAIT;
use inbox::Inbox;
pub use link::Violation;
use pump::Pump;
pub use stall::Stall;

/// Renews the caller's credentials after `UNAUTHENTICATED`; an error ends the consumer.
pub type Refresh = Arc<dyn Fn() -> BoxFuture<'static, Result<(), Status>> + Send + Sync>;

/// Options of a consumer.
#[derive(Clone)]
pub struct ConsumerConfig {
    /// The rpc's name, for logs and metrics.
    pub name: &'static str,
    /// Where to resume; none = start with a snapshot.
    pub position: Option<Position>,
    /// The interval of bookmarks on a quiet stream: 5 to 30 s, and from 1 s on for a service of the mesh.
    pub heartbeat: Duration,
    /// The longest wait before the stream is opened again.
    pub longest_wait: Duration,
    /// Renews credentials; without it `UNAUTHENTICATED` is retried like a lost connection.
    pub refresh: Option<Refresh>,
    /// Called when the stream is reopened.
    pub observer: Arc<dyn Observer>,
}

impl ConsumerConfig {
    /// The defaults: from a snapshot, a heartbeat of 15 s, no refresh, no observer.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            position: None,
            heartbeat: DEFAULT_HEARTBEAT,
            longest_wait: LONGEST_WAIT,
            refresh: None,
            observer: Arc::new(NoObserver),
        }
    }

    /// Resumes from a position that an earlier consumer of the same view reached.
    #[must_use]
    pub fn from_position(mut self, position: Option<Position>) -> Self {
        self.position = position.filter(|p| !p.resume_token.is_empty());
        self
    }

    /// Sets the observer to call when the stream is reopened.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }
}

/// An event of a watch, in order. Apply [`Event::Snapshot`] and [`Event::Delta`], store their position with the derived
/// data, and no change is ever missed or applied twice.
#[derive(Clone, Debug)]
pub enum Event<T> {
    /// A stream was opened.
    Connected {
        /// Name of the serving process.
        server: String,
        /// Whether it resumes from our position.
        resumed: bool,
    },
    /// The whole view: replace everything by these rows (all are upserts).
    Snapshot {
        /// All rows of the view.
        rows: Vec<Change<T>>,
        /// The position after them.
        position: Position,
    },
    /// Changes to apply together, oldest first.
    Delta {
        /// The changes, in order of their revisions.
        changes: Vec<Change<T>>,
        /// The position after them.
        position: Position,
    },
    /// Everything up to the server's head was received.
    CaughtUp {
        /// The position that was reached.
        position: Position,
    },
    /// Our position was not valid any more; a snapshot follows. Keep showing the present rows.
    Reset {
        /// Why the position was not valid.
        reason: ResetReason,
    },
    /// The stream ends at this time unless the permission is renewed.
    AuthExpiring {
        /// The time at which the stream will end.
        at: Timestamp,
    },
    /// The stream was lost and will be reopened.
    Disconnected {
        /// The error that ended the stream.
        status: Status,
        /// The wait before the next attempt.
        retry_in: Duration,
    },
}

/// One watch, kept alive until it is dropped.
///
/// A separate task reads the stream and never waits for the user; events that are not taken in time are merged to the
/// newest change of each key.
///
/// A stream that fails without progress for 10 s is reported to the observer and the log. A frame that cannot be
/// received, each time it is sent, is left behind: the consumer starts from a snapshot.
pub struct Consumer<T> {
    inbox: Arc<Inbox<T>>,
    _stop: DropGuard,
}

impl<T: Message + Default + 'static> Consumer<T> {
    /// Starts a watch. `open` calls the `Watch*` rpc with the options it is given:
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
    /// The status that a retry cannot fix (no permission, no such entity, a bad request, an unknown method), or
    /// `CANCELLED` when the process stops. Later calls return the same error.
    pub async fn next(&mut self) -> Result<Event<T>, Status> {
        self.inbox.next().await
    }
}
