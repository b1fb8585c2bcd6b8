//! The normal course of a stream: hello, the way to its position, and then changes and bookmarks, at its pace. Every
//! await may be dropped: work in progress is kept here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Clock, Error, OnWake, Timestamp, sleep_until};
use foundry_proto::watch::v1::ResetReason;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tonic::Status;

use crate::body;
use crate::feed::Page;
use crate::inner::{Inner, Subscription};
use crate::metrics::count;
use crate::pace::Bucket;
use crate::ring::Next;
use crate::snapshot::{Chunk, SnapshotBuffer};

/// How long to wait for a position from a newer replica.
const ARRIVAL: Duration = Duration::from_secs(3);
/// How often the feed is asked to read during that wait.
const ARRIVAL_STEP: Duration = Duration::from_millis(100);

/// What to send next.
pub(crate) enum Out {
    /// A body that does not change the receiver's position.
    Here(Bytes),
    /// A body and the receiver's position after it.
    At(Bytes, i64),
    /// A heartbeat where there is no new position.
    KeepAlive,
}

enum Phase {
    /// The hello must be sent first.
    Opening { hello: Bytes, then: Box<Phase> },
    /// The position is not valid any more; send a reset and start over.
    Resetting(ResetReason),
    /// The position may come from a replica that is ahead of this one.
    Arriving { until: Option<Timestamp> },
    /// Waiting for a snapshot.
    Starting(BoxFuture<'static, Result<Arc<SnapshotBuffer>, Status>>),
    /// Sending a snapshot.
    Sending { buffer: Arc<SnapshotBuffer>, next: usize },
    /// Following the changes of the feed.
    Following,
}

pub(crate) struct Delivery {
    feed: Subscription,
    news: watch::Receiver<()>,
    phase: Phase,
    /// The position up to which the receiver has everything; what was sent last may be older.
    cursor: i64,
    /// The last delta announced more, from a read at this head. Versions it skipped because a newer one existed come
    /// only later: nothing may be shown below that head.
    chained: Option<i64>,
    /// Whether the receiver has been notified that it is caught up.
    announced: bool,
    /// The known head when it began to catch up.
    goal: i64,
    /// A page being read from the database.
    reading: Option<BoxFuture<'static, Result<Page, Status>>>,
    bucket: Bucket,
    gathering: Option<Timestamp>,
    beat: Heartbeat,
}

impl Delivery {
    pub(crate) fn new(
        feed: Subscription,
        heartbeat: Duration,
        hello: Bytes,
        position: Option<i64>,
        reset: Option<ResetReason>,
    ) -> Self {
        let then = match (position, reset) {
            (Some(_), _) => Phase::Arriving { until: None },
            (None, Some(reason)) => Phase::Resetting(reason),
            (None, None) => Phase::Starting(feed.feed.snapshot(feed.hub())),
        };
        let hub = feed.hub();
        Self {
            news: feed.feed.subscribe(),
            phase: Phase::Opening { hello, then: Box::new(then) },
            cursor: position.unwrap_or(0),
            chained: None,
            announced: false,
            goal: feed.feed.heard(),
            reading: None,
            bucket: Bucket::full(&hub.config.pace, hub.env.clock.now()),
            gathering: None,
            beat: Heartbeat::new(Arc::clone(&hub.env.clock), heartbeat),
            feed,
        }
    }

    pub(crate) fn hub(&self) -> &Arc<Inner> {
        self.feed.hub()
    }

    /// The next body, or the status that ends the stream.
    pub(crate) async fn next(&mut self) -> Result<Out, Status> {
        loop {
            let out = match &mut self.phase {
                Phase::Opening { hello, then } => {
                    let hello = std::mem::take(hello);
                    self.phase = std::mem::replace(then, Phase::Following);
                    Some(Out::Here(hello))
                }
                Phase::Resetting(reason) => {
                    let reason = *reason;
                    Some(self.reset(reason))
                }
                Phase::Arriving { .. } => {
                    self.arrive().await?;
                    None
                }
                Phase::Starting(snapshot) => {
                    tokio::select! {
                        biased;
                        buffer = snapshot => Some(self.begin(buffer?)),
                        () = self.beat.tick() => Some(Out::KeepAlive),
                    }
                }
                Phase::Sending { buffer, next } => {
                    let (buffer, index) = (Arc::clone(buffer), *next);
                    *next += 1;
                    self.send_chunk(&buffer, index)
                }
                Phase::Following => Some(self.follow().await?),
            };
            if let Some(out) = out {
                return Ok(out);
            }
        }
    }

    fn reset(&mut self, reason: ResetReason) -> Out {
        count(&self.hub().counters.resets);
        (self.cursor, self.chained, self.announced) = (0, None, false);
        self.phase = Phase::Starting(self.feed.feed.snapshot(self.feed.hub()));
        Out::At(body::reset(reason), 0)
    }

    /// Waits until this replica has reached the position, at most three seconds.
    async fn arrive(&mut self) -> Result<(), Status> {
        let clock = Arc::clone(&self.hub().env.clock);
        let Phase::Arriving { until } = &mut self.phase else { return Ok(()) };
        let until = *until.get_or_insert_with(|| clock.now().plus(ARRIVAL));
        loop {
            match self.feed.feed.head() {
                Some(head) if head >= self.cursor => {
                    self.phase = Phase::Following;
                    return Ok(());
                }
                Some(_) if clock.now() >= until => return Err(behind().into()),
                Some(_) => {
                    self.feed.feed.await_head();
                    self.feed.feed.nudge();
                    tokio::select! {
                        _ = self.news.changed() => {}
                        () = clock.sleep(ARRIVAL_STEP) => {}
                    }
                }
                // The feed's first read wakes this task.
                None => tokio::select! {
                    _ = self.news.changed() => {}
                    () = clock.sleep(until.since(clock.now())) => return Err(behind().into()),
                },
            }
        }
    }

    fn begin(&mut self, buffer: Arc<SnapshotBuffer>) -> Out {
        count(&self.hub().counters.snapshots);
        let body = body::snapshot_begin(buffer.rev);
        self.phase = Phase::Sending { buffer, next: 0 };
        Out::Here(body)
    }

    fn send_chunk(&mut self, buffer: &SnapshotBuffer, index: usize) -> Option<Out> {
        match buffer.chunk(index, self.hub().env.clock.now()) {
            Chunk::Body(body) => Some(Out::Here(body)),
            Chunk::End => {
                let rev = buffer.rev;
                let token = self.feed.feed.stamp.token(rev);
                (self.cursor, self.phase) = (rev, Phase::Following);
                Some(Out::At(body::snapshot_end(rev, buffer.count, buffer.digest, token), rev))
            }
            Chunk::Revoked => {
                self.phase = Phase::Starting(self.feed.feed.snapshot(self.feed.hub()));
                None
            }
        }
    }

    async fn follow(&mut self) -> Result<Out, Status> {
        loop {
            if let Some(reading) = &mut self.reading {
                let page = tokio::select! {
                    biased;
                    page = reading => page,
                    () = self.beat.tick() => return Ok(Out::KeepAlive),
                };
                self.reading = None;
                if let Some(out) = self.take_page(page?) {
                    return Ok(out);
                }
                continue;
            }
            if !self.announced {
                self.feed.feed.await_head();
            }
            self.news.borrow_and_update();
            let next = match self.feed.feed.next(self.cursor) {
                Some(Next::Delta { to, more: false, .. } | Next::Current(to)) if self.chained > Some(to) => {
                    Some(Next::Behind)
                }
                next => next,
            };
            match next {
                Some(Next::Delta { body, to, more }) => {
                    let unpaced = self.chained.is_some() || more;
                    if unpaced || self.may_send() {
                        count(&self.hub().counters.ring_hits);
                        return Ok(self.delta(body, to, more.then_some(to)));
                    }
                }
                Some(Next::Behind) => {
                    (self.announced, self.goal) = (false, self.feed.feed.heard());
                    self.reading = Some(self.feed.feed.read_page(self.feed.hub(), self.cursor));
                    continue;
                }
                Some(Next::Current(head)) => {
                    self.cursor = head;
                    if self.chained.is_some() {
                        return Ok(self.delta(body::delta(head, [].iter(), false), head, None));
                    }
                    if !self.announced && head >= self.goal {
                        self.announced = true;
                        return Ok(self.bookmark());
                    }
                }
                None => {}
            }
            if self.wait().await {
                return Ok(if self.chained.is_some() { Out::KeepAlive } else { self.bookmark() });
            }
        }
    }

    /// Waits for changes or for the end of the gathering. True when a heartbeat is due first.
    async fn wait(&mut self) -> bool {
        match self.gathering {
            Some(until) => {
                let clock = &self.feed.hub().env.clock;
                tokio::select! {
                    () = clock.sleep(until.since(clock.now())) => false,
                    () = self.beat.tick() => true,
                }
            }
            None => tokio::select! {
                // The feed holds the sender for as long as we hold the feed.
                _ = self.news.changed() => false,
                () = self.beat.tick() => true,
            },
        }
    }

    /// Whether a single delta may go out now; if not, changes are gathered until a fixed time.
    fn may_send(&mut self) -> bool {
        let hub = self.feed.hub();
        let (pace, now) = (&hub.config.pace, hub.env.clock.now());
        match self.gathering {
            None if self.bucket.take(pace, now) => true,
            None => {
                self.gathering = Some(now.plus(pace.gather));
                false
            }
            Some(until) if now >= until => {
                self.bucket.take_gathered(pace, now);
                self.gathering = None;
                true
            }
            Some(_) => false,
        }
    }

    fn take_page(&mut self, page: Page) -> Option<Out> {
        match page {
            Page::BelowFloor => Some(self.reset(ResetReason::BelowFloor)),
            Page::Delta { to, more: false, empty: true, .. } if self.chained.is_none() => {
                self.cursor = to;
                None
            }
            Page::Delta { body, to, head, more, .. } => Some(self.delta(body, to, more.then_some(head))),
        }
    }

    /// A delta up to `to`; with `more`, part of a chain that must not end before that head.
    fn delta(&mut self, body: Bytes, to: i64, more: Option<i64>) -> Out {
        count(&self.hub().counters.deltas);
        // Of several reads in one chain, the newest one counts.
        self.chained = more.map(|head| self.chained.map_or(head, |before| before.max(head)));
        self.cursor = to;
        Out::At(body, to)
    }

    fn bookmark(&self) -> Out {
        let feed = &self.feed.feed;
        let caught_up = self.announced && matches!(feed.next(self.cursor), Some(Next::Current(_)));
        Out::At(body::bookmark(self.cursor, caught_up, feed.stamp.token(self.cursor)), self.cursor)
    }
}

fn behind() -> Error {
    Error::unavailable(
        "POSITION_AHEAD",
        "the position is newer than this server's data",
        Duration::from_millis(500),
    )
    .next_action("open the watch again, on another server if there is one")
}

/// The timer for heartbeats on one stream. It runs on beside the frames, which do not touch it.
struct Heartbeat {
    clock: Arc<dyn Clock>,
    every: Duration,
    timer: OnWake<BoxFuture<'static, ()>>,
}

impl Heartbeat {
    fn new(clock: Arc<dyn Clock>, every: Duration) -> Self {
        let timer = OnWake::new(sleep_until(&clock, clock.now().plus(every)));
        Self { clock, every, timer }
    }

    async fn tick(&mut self) {
        (&mut self.timer).await;
        self.timer.set(sleep_until(&self.clock, self.clock.now().plus(self.every)));
    }
}
