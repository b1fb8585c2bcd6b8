//! The hub: all watches that one service serves in one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{Env, Error, Result, Tasks, Timestamp};
use foundry_frame::Frame;
use foundry_proto::watch::v1::WatchOptions;
use foundry_store::{Scope, Store};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, watch};
use tonic::Status;

use crate::authorization::StreamAuthorization;
use crate::feed::Feed;
use crate::metrics::{Counters, WatchMetrics, count};
use crate::position::TokenStamp;
use crate::snapshot::Budget;
use crate::watcher::{Start, Watcher};
use crate::{Fingerprint, NoObserver, Observer, Pace, View, lock};

/// What a `Watch*` rpc returns.
pub type FrameStream = BoxStream<'static, Result<Frame, Status>>;

/// Longest time over which a drain spreads the reconnects.
const MAX_SPREAD: Duration = Duration::from_secs(3);
/// Reconnects per second that a drain with few watches aims at, so that it is short.
const RECONNECTS_PER_SECOND: u32 = 500;
/// How long a drained stream goes on after its client was to open the next one.
pub(crate) const OVERLAP: Duration = Duration::from_millis(250);

/// Limits and sizes of a hub.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Name of the serving process, told in each stream's first frame.
    pub server: String,
    /// Most watches at the same time.
    pub max_watches: usize,
    /// Most watches of one caller at the same time.
    pub max_watches_per_caller: usize,
    /// Bytes of encoded changes kept in memory for each view that is watched.
    pub ring_bytes: usize,
    /// Bytes of all snapshots that are being sent.
    pub snapshot_bytes: usize,
    /// Reads for watches that use the database at the same time.
    pub concurrent_reads: usize,
    /// How fast deltas go out on a stream.
    pub pace: Pace,
    /// Told of each watch.
    pub observer: Arc<dyn Observer>,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            server: String::new(),
            max_watches: 20_000,
            max_watches_per_caller: 256,
            ring_bytes: 512 * 1024,
            snapshot_bytes: 64 * 1024 * 1024,
            concurrent_reads: 2,
            pace: Pace::default(),
            observer: Arc::new(NoObserver),
        }
    }
}

/// What all streams are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Serve,
    Drain { spread: Duration, deadline: Timestamp },
}

type FeedKey = (Scope, Fingerprint);

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) env: Env,
    pub(crate) tasks: Tasks,
    pub(crate) config: HubConfig,
    pub(crate) counters: Counters,
    pub(crate) reads: Semaphore,
    pub(crate) budget: Budget,
    pub(crate) orders: watch::Sender<Order>,
    /// How many streams are open.
    open: watch::Sender<usize>,
    callers: Mutex<HashMap<String, usize>>,
    feeds: Mutex<HashMap<FeedKey, (Arc<Feed>, usize)>>,
}

/// Serves watches over one store. Cloning shares it.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

impl Hub {
    /// A hub over a store. Its feeds run in `tasks`; end them after [`Hub::drain`].
    pub fn new(store: Store, env: Env, tasks: Tasks, config: HubConfig) -> Self {
        let inner = Inner {
            reads: Semaphore::new(config.concurrent_reads.max(1)),
            budget: Budget::new(config.snapshot_bytes),
            store,
            env,
            tasks,
            config,
            counters: Counters::default(),
            orders: watch::Sender::new(Order::Serve),
            open: watch::Sender::new(0),
            callers: Mutex::default(),
            feeds: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Starts a watch: the stream that a `Watch*` handler returns. The handler has checked that
    /// the caller may see the view; `authorization` ends the stream when that changes.
    ///
    /// # Errors
    /// `UNAVAILABLE` while draining, `RESOURCE_EXHAUSTED` at a limit, `INVALID_ARGUMENT` for a
    /// heartbeat that is not 5 to 30 s.
    pub fn watch(
        &self,
        view: impl View,
        options: Option<WatchOptions>,
        authorization: impl StreamAuthorization,
    ) -> Result<FrameStream> {
        let start = Start::parse(options.unwrap_or_default())?;
        let admitted =
            self.admit(authorization.caller()).inspect_err(|_| count(&self.inner.counters.refused))?;
        let feed = self.subscribe(Arc::new(view), admitted);
        let events = Box::new(authorization).events();
        let watcher = Box::new(Watcher::new(feed, start, events));
        let frames = futures::stream::unfold(watcher, |mut watcher| async move {
            let frame = watcher.next().await?;
            Some((frame, watcher))
        });
        Ok(frames.boxed())
    }

    /// Ends all streams: each is told to go elsewhere and then ends well; new ones are refused.
    /// The reconnects spread over `spread` at most (3 s at most, and less when few watch). False
    /// when some streams did not end in time because nobody reads them.
    pub async fn drain(&self, spread: Duration) -> bool {
        let inner = &self.inner;
        let open = *inner.open.borrow();
        let enough = Duration::from_secs(1) * u32::try_from(open).unwrap_or(u32::MAX).min(10_000)
            / RECONNECTS_PER_SECOND;
        let spread = spread.min(MAX_SPREAD).min(enough);
        let deadline = inner.env.clock.now().plus(spread + OVERLAP);
        inner.orders.send_if_modified(|order| {
            let first = *order == Order::Serve;
            if first {
                *order = Order::Drain { spread, deadline };
            }
            first
        });
        let mut open = inner.open.subscribe();
        tokio::select! {
            biased;
            // The sender lives as long as this hub.
            _ = open.wait_for(|n| *n == 0) => true,
            () = inner.env.clock.sleep(spread + OVERLAP * 2) => false,
        }
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        *self.inner.open.borrow()
    }

    /// Who is told of the watches.
    pub fn observer(&self) -> &Arc<dyn Observer> {
        &self.inner.config.observer
    }

    /// The counts since the process started.
    pub fn metrics(&self) -> WatchMetrics {
        self.inner.counters.read(lock(&self.inner.feeds).len() as u64)
    }

    fn admit(&self, caller: Option<String>) -> Result<Admitted> {
        let inner = &self.inner;
        if inner.tasks.cancellation().is_cancelled() || *inner.orders.borrow() != Order::Serve {
            return Err(stopping());
        }
        let mut callers = lock(&inner.callers);
        let open = *inner.open.borrow();
        if open >= inner.config.max_watches {
            return Err(limit("watches", "this server", open, inner.config.max_watches));
        }
        if let Some(caller) = &caller {
            let (have, max) =
                (callers.get(caller).copied().unwrap_or(0), inner.config.max_watches_per_caller);
            if have >= max {
                return Err(limit("watches_per_caller", caller, have, max));
            }
            *callers.entry(caller.clone()).or_default() += 1;
        }
        inner.open.send_modify(|n| *n += 1);
        Ok(Admitted { inner: Arc::clone(inner), caller })
    }

    fn subscribe(&self, view: Arc<dyn View>, admitted: Admitted) -> Subscription {
        let inner = &self.inner;
        inner.counters.opened(view.name());
        let key = (view.scope().clone(), view.fingerprint());
        let mut feeds = lock(&inner.feeds);
        let (feed, watchers) = feeds.entry(key.clone()).or_insert_with(|| {
            let stamp = TokenStamp::new(inner.store.incarnation(), &key.0, key.1);
            let hint = inner.store.subscribe(&key.0);
            let feed = Arc::new(Feed::new(view, stamp, hint));
            inner.tasks.spawn("watch feed", Arc::clone(&feed).run(Arc::clone(inner)));
            (feed, 0)
        });
        *watchers += 1;
        Subscription { feed: Arc::clone(feed), key, admitted }
    }
}

/// A stream's place among those that a process and its caller may have.
struct Admitted {
    inner: Arc<Inner>,
    caller: Option<String>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(caller) = &self.caller {
            let mut callers = lock(&self.inner.callers);
            if let Some(n) = callers.get_mut(caller) {
                *n -= 1;
                if *n == 0 {
                    callers.remove(caller);
                }
            }
        }
        self.inner.open.send_modify(|n| *n = n.saturating_sub(1));
    }
}

/// A watcher's share of a feed; the feed ends with the last one.
pub(crate) struct Subscription {
    pub(crate) feed: Arc<Feed>,
    key: FeedKey,
    admitted: Admitted,
}

impl Subscription {
    pub(crate) fn hub(&self) -> &Arc<Inner> {
        &self.admitted.inner
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let inner = &self.admitted.inner;
        inner.counters.closed(self.feed.view.name());
        inner.config.observer.closed(self.feed.view.name());
        let mut feeds = lock(&inner.feeds);
        if let Some((feed, watchers)) = feeds.get_mut(&self.key) {
            *watchers -= 1;
            if *watchers == 0 {
                feed.unwatched.cancel();
                feeds.remove(&self.key);
            }
        }
    }
}

/// The answer to new and running watches while the process stops.
pub(crate) fn stopping() -> Error {
    Error::unavailable("DRAINING", "this server is about to stop", Duration::from_millis(250))
        .next_action("open the watch again; the position stays good")
}

fn limit(name: &str, scope: &str, current: usize, maximum: usize) -> Error {
    Error::quota(name, scope, current as u64, maximum as u64)
        .retry_after(Duration::from_secs(5))
        .next_action("close watches that are not looked at, or watch through the gateway's shared stream")
}
