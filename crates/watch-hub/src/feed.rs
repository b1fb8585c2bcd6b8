//! A feed, shared by all watchers of one view of one scope. It reads new changes once, encodes them once and wakes the
//! watchers; each watcher is a revision, not a queue.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Error, Result, Timestamp, lock};
use foundry_store::Hint;
use foundry_watch::Stall;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::encoded::EncodedChange;
use crate::inner::Inner;
use crate::metrics::count;
use crate::ring::{Next, Ring, page_end};
use crate::snapshot::SnapshotBuffer;
use crate::token::TokenStamp;
use crate::{View, body};

/// Changes that one read of the feed takes; for more, the watchers read pages.
const FEED_ROWS: u32 = 1024;
/// Changes per page for watchers that lag.
const PAGE_ROWS: u32 = 256;
/// Largest page body, unless one revision alone is larger.
const MAX_PAGE: usize = 256 * 1024;
/// An unused snapshot is dropped after this time.
const SNAPSHOT_IDLE: Duration = Duration::from_secs(10);

type SharedBuffer = Result<Arc<SnapshotBuffer>, Status>;

/// After failing for this long, a feed counts as stalled.
const STALLED: Duration = Duration::from_secs(10);

/// A feed that has not been able to read its view for 10 s: its watchers get nothing new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StalledFeed {
    /// When its first attempt failed.
    pub since: Timestamp,
    /// Failed attempts since then.
    pub attempts: i32,
    /// Why the last one failed.
    pub cause: String,
}

/// The result of reading the database for a watcher that is older than the ring.
#[derive(Clone, Debug)]
pub(crate) enum Page {
    /// Tombstones after the position may already be deleted.
    BelowFloor,
    /// A delta up to `to`; with `more`, not yet up to the head of its transaction.
    Delta { body: Bytes, to: i64, head: i64, more: bool, empty: bool },
}

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Building(Shared<BoxFuture<'static, SharedBuffer>>),
    Ready(Arc<SnapshotBuffer>),
}

pub(crate) struct Feed {
    pub(crate) view: Arc<dyn View>,
    pub(crate) stamp: TokenStamp,
    /// None until the head was read for the first time.
    ring: Mutex<Option<Ring>>,
    changed: watch::Sender<()>,
    nudge: Notify,
    hint: Hint,
    /// Whether a watcher waits for the head to move, even without a change of the view.
    head_awaited: AtomicBool,
    slot: Mutex<Slot>,
    /// The last page read, with its start and its head: after a restart, many watchers need the same one.
    page: Mutex<Option<(i64, i64, Page)>>,
    /// The failures since the last read.
    failing: Mutex<Option<StalledFeed>>,
    /// Cancelled when the last watcher has left.
    pub(crate) unwatched: CancellationToken,
}

impl Feed {
    pub(crate) fn new(view: Arc<dyn View>, stamp: TokenStamp, hint: Hint) -> Self {
        Self {
            view,
            stamp,
            ring: Mutex::new(None),
            changed: watch::Sender::new(()),
            nudge: Notify::new(),
            hint,
            head_awaited: AtomicBool::new(false),
            slot: Mutex::default(),
            page: Mutex::default(),
            failing: Mutex::default(),
            unwatched: CancellationToken::new(),
        }
    }

    /// Notified when there is something new to send.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What a watcher at `rev` gets next; none before the feed's first read.
    pub(crate) fn next(&self, rev: i64) -> Option<Next> {
        lock(&self.ring).as_mut().map(|ring| ring.next(rev))
    }

    /// The revision up to which the feed has read; none before the first read.
    pub(crate) fn head(&self) -> Option<i64> {
        lock(&self.ring).as_ref().map(Ring::head)
    }

    /// The newest revision that this process has a hint of; the feed may not have read it yet.
    pub(crate) fn heard(&self) -> i64 {
        self.hint.newest()
    }

    /// Requests a notification when the head moves next. Request first, then check.
    pub(crate) fn await_head(&self) {
        self.head_awaited.store(true, Ordering::SeqCst);
    }

    /// Makes the feed read changes now.
    pub(crate) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Runs until the last watcher leaves or the process stops.
    pub(crate) async fn run(self: Arc<Self>, hub: Arc<Inner>) {
        let mut hint = self.hint.clone();
        let mut stall = Stall::default();
        loop {
            hint.mark_seen();
            match self.advance(&hub).await {
                Ok(()) => {
                    stall.progressed();
                    lock(&self.failing).take();
                }
                Err(error) => self.note_failure(&hub, &mut stall, &error),
            }
            if !self.rest(&hub, &mut hint, stall.is_failing()).await {
                return;
            }
        }
    }

    /// Reports the first failure, and those that last.
    fn note_failure(&self, hub: &Inner, stall: &mut Stall, error: &Error) {
        let (now, first) = (hub.env.clock.now(), !stall.is_failing());
        let lasted = stall.failed(now);
        let mut failing = lock(&self.failing);
        let failing = failing.get_or_insert(StalledFeed { since: now, attempts: 0, cause: String::new() });
        failing.attempts = failing.attempts.saturating_add(1);
        error.message().clone_into(&mut failing.cause);
        if first || lasted.is_some() {
            tracing::warn!(view = self.view.name(), scope = %self.view.scope(), ?lasted, ?error,
                "a feed cannot read its view and keeps trying");
        }
        if lasted.is_some() {
            hub.config.observer.stalled(self.view.name(), error.code());
        }
    }

    /// How it fails, once that has lasted for 10 s.
    pub(crate) fn stalled(&self, now: Timestamp) -> Option<StalledFeed> {
        lock(&self.failing).as_ref().filter(|failing| now.since(failing.since) >= STALLED).cloned()
    }

    /// Waits for a reason to read. False when there will be none.
    async fn rest(&self, hub: &Inner, hint: &mut Hint, failing: bool) -> bool {
        loop {
            self.forget_unused(hub.env.clock.now());
            let nap = Duration::from_secs_f64(1.0 + hub.env.random.fraction());
            tokio::select! {
                // A failing database is not read for every commit.
                _ = hint.changed(), if !failing => return true,
                () = self.nudge.notified() => return true,
                () = hub.env.clock.sleep(nap) => {}
                () = self.unwatched.cancelled() => return false,
                () = hub.tasks.cancellation().cancelled() => return false,
            }
            // Hints may be lost: the database is the truth.
            match hub.store.head(self.view.scope()).await {
                Ok(head) if self.head().is_some_and(|known| known >= head) => {}
                _ => return true,
            }
        }
    }

    /// Reads new changes in one transaction into the ring.
    async fn advance(&self, hub: &Inner) -> Result<()> {
        let scope = self.view.scope();
        let _turn = hub.reads.acquire().await.map_err(Error::internal)?;
        count(&hub.counters.feed_reads);
        let Some(at) = self.head() else {
            let head = hub.store.head(scope).await?;
            let ring = Ring::new(head, hub.config.ring_bytes, !self.view.never_conflated());
            *lock(&self.ring) = Some(ring);
            self.changed.send_replace(());
            return Ok(());
        };
        let snapshot = hub.store.snapshot().await?;
        let head = snapshot.head(scope).await?;
        if head <= at {
            return Ok(());
        }
        let whole = if snapshot.floor(scope).await? > at {
            None
        } else {
            let page = self.view.changes_after(&snapshot, at, FEED_ROWS).await?;
            page.complete_to.is_none_or(|rev| rev >= head).then_some(page.changes)
        };
        drop(snapshot);
        let news = match whole {
            Some(changes) => {
                let changes: Vec<_> = changes.into_iter().map(EncodedChange::new).collect();
                hub.counters.encoded.fetch_add(changes.len() as u64, Ordering::Relaxed);
                lock(&self.ring).as_mut().is_some_and(|ring| ring.append(head, changes))
            }
            None => {
                if let Some(ring) = lock(&self.ring).as_mut() {
                    ring.restart(head);
                }
                true
            }
        };
        if self.head_awaited.swap(false, Ordering::SeqCst) || news {
            self.changed.send_replace(());
        }
        Ok(())
    }

    /// A page for a watcher at `rev`, read in a separate task: it holds a connection, and a stream may be left unpolled
    /// for ever.
    pub(crate) fn read_page(
        self: &Arc<Self>,
        hub: &Arc<Inner>,
        rev: i64,
    ) -> BoxFuture<'static, Result<Page, Status>> {
        let (feed, inner) = (Arc::clone(self), Arc::clone(hub));
        in_task(hub, "watch page", async move {
            let _turn = inner.reads.acquire().await.map_err(Error::internal)?;
            if let Some((from, head, page)) = &*lock(&feed.page)
                && *from == rev
                && feed.head() == Some(*head)
            {
                return Ok(page.clone());
            }
            count(&inner.counters.page_reads);
            let (page, head) = feed.page_after(&inner, rev).await?;
            *lock(&feed.page) = Some((rev, head, page.clone()));
            Ok(page)
        })
    }

    async fn page_after(&self, hub: &Inner, rev: i64) -> Result<(Page, i64)> {
        let snapshot = hub.store.snapshot().await?;
        let scope = self.view.scope();
        let head = snapshot.head(scope).await?;
        if snapshot.floor(scope).await? > rev {
            return Ok((Page::BelowFloor, head));
        }
        let found = self.view.changes_after(&snapshot, rev, PAGE_ROWS).await?;
        drop(snapshot);
        let all = found.complete_to.unwrap_or(head).min(head);
        let changes: Vec<_> = found.changes.into_iter().map(EncodedChange::new).collect();
        let sizes = changes.iter().map(|c| (c.version, c.field.len()));
        let (fitting, to) = page_end(rev, all.max(rev), sizes, MAX_PAGE);
        let more = to < head;
        let body = body::delta(to, changes[..fitting].iter(), more);
        Ok((Page::Delta { body, to, head, more, empty: fitting == 0 }, head))
    }

    /// The buffer to start a stream from: an existing one that is recent enough, or a new one that is shared by all who
    /// need one in the meantime.
    pub(crate) fn snapshot(self: &Arc<Self>, hub: &Arc<Inner>) -> BoxFuture<'static, SharedBuffer> {
        let mut slot = lock(&self.slot);
        match &*slot {
            // A finished build that is still here has panicked.
            Slot::Building(building) if building.peek().is_none() => return building.clone().boxed(),
            Slot::Ready(buffer) if self.is_recent(buffer) => {
                return futures::future::ready(Ok(Arc::clone(buffer))).boxed();
            }
            _ => {}
        }
        let (feed, inner) = (Arc::clone(self), Arc::clone(hub));
        let building = in_task(hub, "watch snapshot", async move {
            count(&inner.counters.snapshot_reads);
            let built = inner.budget.build(&inner.store, &*feed.view, &inner.env, &inner.reads).await;
            *lock(&feed.slot) = built.as_ref().map_or(Slot::Empty, |buffer| Slot::Ready(Arc::clone(buffer)));
            built
        })
        .shared();
        *slot = Slot::Building(building.clone());
        building.boxed()
    }

    /// Whether starting from this buffer and continuing from the ring costs less than a new read.
    fn is_recent(&self, buffer: &SnapshotBuffer) -> bool {
        let few = usize::try_from(buffer.count).unwrap_or(0).max(64);
        !buffer.is_revoked()
            && lock(&self.ring).as_ref().is_some_and(|ring| ring.fewer_after(buffer.rev, few))
    }

    fn forget_unused(&self, now: Timestamp) {
        lock(&self.page).take();
        let mut slot = lock(&self.slot);
        if matches!(&*slot, Slot::Ready(buffer) if buffer.idle(now) > SNAPSHOT_IDLE) {
            *slot = Slot::Empty;
        }
    }
}

/// Runs the work in a task that the hub owns; the caller may stop waiting.
fn in_task<T: Send + 'static>(
    hub: &Inner,
    name: &'static str,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> BoxFuture<'static, Result<T, Status>> {
    let (done, result) = oneshot::channel();
    hub.tasks.spawn(name, async move {
        // The caller may be gone.
        let _ = done.send(work.await.map_err(Status::from));
    });
    async move { result.await.unwrap_or_else(|_| Err(crate::inner::stopping().into())) }.boxed()
}
