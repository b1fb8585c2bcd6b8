//! The state that the watches of a hub share: its limits, and the feeds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{Env, Error, Result, Tasks, lock};
use foundry_store::{Scope, Store};
use foundry_watch::{Drain, NoObserver, Observer, StreamEnd};
use tokio::sync::Semaphore;

use crate::feed::Feed;
use crate::metrics::Counters;
use crate::snapshot::Budget;
use crate::token::TokenStamp;
use crate::{Fingerprint, Pace, View};

/// Options of a hub.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Name of the serving process, sent in each stream's first frame.
    pub server: String,
    /// Most watches at the same time.
    pub max_watches: usize,
    /// Most watches of one caller at the same time.
    pub max_watches_per_caller: usize,
    /// Bytes of encoded changes kept in memory for each watched view.
    pub ring_bytes: usize,
    /// Bytes of all snapshots being sent.
    pub snapshot_bytes: usize,
    /// Database reads for watches at the same time.
    pub concurrent_reads: usize,
    /// How fast deltas are sent on a stream.
    pub pace: Pace,
    /// Called for each watch.
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

pub(crate) type FeedKey = (Scope, Fingerprint);

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) env: Env,
    pub(crate) tasks: Tasks,
    pub(crate) config: HubConfig,
    pub(crate) counters: Counters,
    pub(crate) reads: Semaphore,
    pub(crate) budget: Budget,
    pub(crate) drain: Drain,
    pub(crate) callers: Mutex<HashMap<String, usize>>,
    pub(crate) feeds: Mutex<HashMap<FeedKey, (Arc<Feed>, usize)>>,
}

impl Inner {
    /// Admits a stream of this caller.
    ///
    /// # Errors
    /// `UNAVAILABLE` while draining, `RESOURCE_EXHAUSTED` at a limit.
    pub(crate) fn admit(self: &Arc<Self>, caller: Option<String>) -> Result<(Admitted, StreamEnd)> {
        if self.tasks.cancellation().is_cancelled() || self.drain.has_begun() {
            return Err(stopping());
        }
        let mut callers = lock(&self.callers);
        let open = self.drain.open_streams();
        if open >= self.config.max_watches {
            return Err(limit("watches", "this server", open, self.config.max_watches));
        }
        if let Some(caller) = &caller {
            let (have, max) = (callers.get(caller).copied().unwrap_or(0), self.config.max_watches_per_caller);
            if have >= max {
                return Err(limit("watches_per_caller", caller, have, max));
            }
            *callers.entry(caller.clone()).or_default() += 1;
        }
        Ok((Admitted { inner: Arc::clone(self), caller }, self.drain.stream()))
    }

    /// Subscribes to the feed of a view, starting it if necessary.
    pub(crate) fn subscribe(self: &Arc<Self>, view: Arc<dyn View>, admitted: Admitted) -> Subscription {
        self.counters.opened(view.name());
        let key = (view.scope().clone(), view.fingerprint());
        let mut feeds = lock(&self.feeds);
        let (feed, watchers) = feeds.entry(key.clone()).or_insert_with(|| {
            let stamp = TokenStamp::new(self.store.incarnation(), &key.0, key.1);
            let hint = self.store.subscribe(&key.0);
            let feed = Arc::new(Feed::new(view, stamp, hint));
            self.tasks.spawn("watch feed", Arc::clone(&feed).run(Arc::clone(self)));
            (feed, 0)
        });
        *watchers += 1;
        Subscription { feed: Arc::clone(feed), key, admitted }
    }
}

/// An admitted stream, counted against the limits until it is dropped.
pub(crate) struct Admitted {
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
    }
}

/// A watcher's subscription to a feed; the feed ends with the last one.
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
    Error::unavailable("DRAINING", "this server is stopping", Duration::from_millis(250))
        .next_action("open the watch again; the position stays valid")
}

fn limit(name: &str, scope: &str, current: usize, maximum: usize) -> Error {
    Error::quota(name, scope, current as u64, maximum as u64)
        .retry_after(Duration::from_secs(5))
        .next_action("close watches you no longer need, or use the gateway's shared stream")
}
