//! The hub: all watches that one service serves in one process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{Env, Result, Tasks, lock};
use foundry_frame::Frame;
use foundry_proto::watch::v1::WatchOptions;
use foundry_store::{Scope, Store};
use foundry_watch::{Drain, Observer, StreamAuthorization};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::View;
use crate::feed::StalledFeed;
use crate::inner::{HubConfig, Inner};
use crate::metrics::{Counters, WatchMetrics, count};
use crate::snapshot::Budget;
use crate::watcher::{Start, Watcher};

/// What a `Watch*` rpc returns.
pub type FrameStream = BoxStream<'static, Result<Frame, Status>>;

/// How long a drained stream continues after the time at which its client should open the next one.
const OVERLAP: Duration = Duration::from_millis(250);

/// Serves watches over one store. Cloning shares it.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

impl Hub {
    /// A hub over a store. Its feeds run on `tasks`; end them after [`Hub::drain`].
    pub fn new(store: Store, env: Env, tasks: Tasks, config: HubConfig) -> Self {
        let drain = Drain::new(env.clone(), OVERLAP);
        let inner = Inner {
            reads: Semaphore::new(config.concurrent_reads.max(1)),
            budget: Budget::new(config.snapshot_bytes),
            store,
            env,
            tasks,
            config,
            counters: Counters::default(),
            drain,
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
    /// heartbeat that is not 5 to 30 s, or 1 to 30 s for a service of the mesh.
    pub fn watch(
        &self,
        view: impl View,
        options: Option<WatchOptions>,
        authorization: impl StreamAuthorization,
    ) -> Result<FrameStream> {
        let (options, caller) = (options.unwrap_or_default(), authorization.caller());
        let start = match &caller {
            Some(_) => Start::parse(options)?,
            None => Start::parse_of_service(options)?,
        };
        let (admitted, end) =
            self.inner.admit(caller).inspect_err(|_| count(&self.inner.counters.refused))?;
        let feed = self.inner.subscribe(Arc::new(view), admitted);
        let events = Box::new(authorization).events();
        let watcher = Box::new(Watcher::new(feed, end, start, events));
        let frames = futures::stream::unfold(watcher, |mut watcher| async move {
            let frame = watcher.next().await?;
            Some((frame, watcher))
        });
        Ok(frames.boxed())
    }

    /// Drains: each stream is asked to reconnect and then ends cleanly; new ones are refused.
    /// The reconnects are spread over `spread` at most (3 s at most, and less when few are open). False when some
    /// streams did not end in time because their clients do not read.
    pub async fn drain(&self, spread: Duration) -> bool {
        self.inner.drain.drain(spread).await
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        self.inner.drain.open_streams()
    }

    /// Whether somebody watches this view at this process, or did until a moment ago.
    pub fn is_watched(&self, view: &dyn View) -> bool {
        let key = (view.scope().clone(), view.fingerprint());
        lock(&self.inner.feeds).contains_key(&key)
    }

    /// The views of a scope whose watchers have got nothing new for 10 s, since their feeds cannot read them: the name of
    /// each, and why. Of views that are the same but for their filters, the one that has failed for longest.
    pub fn stalled(
        &self,
        scope: &Scope,
        concerns: impl Fn(&dyn View) -> bool,
    ) -> Vec<(&'static str, StalledFeed)> {
        let now = self.inner.env.clock.now();
        let feeds: Vec<_> = lock(&self.inner.feeds)
            .iter()
            .filter(|((of, _), (feed, _))| of == scope && concerns(&*feed.view))
            .map(|(_, (feed, _))| Arc::clone(feed))
            .collect();
        let mut stalled: Vec<_> =
            feeds.iter().filter_map(|feed| Some((feed.view.name(), feed.stalled(now)?))).collect();
        stalled.sort_by_key(|(name, stalled)| (*name, stalled.since));
        stalled.dedup_by_key(|(name, _)| *name);
        stalled
    }

    /// The observer of the watches.
    pub fn observer(&self) -> &Arc<dyn Observer> {
        &self.inner.config.observer
    }

    /// Counts since the process started.
    pub fn metrics(&self) -> WatchMetrics {
        self.inner.counters.read(lock(&self.inner.feeds).len() as u64)
    }
}
