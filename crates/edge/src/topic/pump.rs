//! Reads the one upstream of a topic, always, however slow its readers are.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Timestamp};
use foundry_frame::Frame;
use foundry_watch::{Backoff, DEFAULT_HEARTBEAT, Observer, Reconnect, Stall};
use futures::StreamExt as _;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::SelectAll;
use tonic::{Status, Streaming};

use super::frames::{Kind, broken};
use super::link::Link;
use super::opened::Opened;
use super::ring::{Group, Page};
use super::shared_view::{Mark, Topic};
use crate::owners::{Owners, is_final};

/// Why a topic's upstream is over.
enum End {
    /// It is opened again.
    Lost(Status),
    /// What comes does not go on from what was: everybody sees for itself.
    NoMore,
}

/// A chain of deltas whose end has not come yet.
struct Chain {
    from: i64,
    pages: Vec<Page>,
    bytes: usize,
}

/// An open upstream.
struct Live {
    stream: Streaming<Frame>,
    link: Link,
    chain: Option<Chain>,
    silence: Duration,
}

impl Live {
    fn new(opened: Opened) -> Self {
        let Opened { stream, link, hello, .. } = opened;
        // The owner may not say how often it sends bookmarks.
        let heartbeat = hello.heartbeat.and_then(|d| Duration::try_from(d).ok()).unwrap_or(DEFAULT_HEARTBEAT);
        Self { stream, link, chain: None, silence: heartbeat.mul_f64(2.5) }
    }
}

type Opening = BoxFuture<'static, Result<Opened, Status>>;

/// Keeps a topic's upstream.
pub(crate) struct Pump {
    topic: Arc<Topic>,
    owners: Arc<Owners>,
    env: Env,
    observer: Arc<dyn Observer>,
    backoff: Backoff,
    stall: Stall,
    /// Streams that were replaced: read to their end, since cutting them off costs their connection.
    retired: SelectAll<Streaming<Frame>>,
}

impl Pump {
    pub(crate) fn new(topic: Arc<Topic>, owners: Arc<Owners>, env: Env, observer: Arc<dyn Observer>) -> Self {
        let (backoff, stall) = (Backoff::default(), Stall::default());
        Self { topic, owners, env, observer, backoff, stall, retired: SelectAll::new() }
    }

    /// Reads until nothing goes on from what was read.
    pub(crate) async fn run(mut self, opened: Opened) {
        let mut live = Live::new(opened);
        loop {
            let End::Lost(mut status) = self.follow(&mut live).await else { return };
            live = loop {
                if is_final(&status) || self.topic.is_unread() {
                    return;
                }
                self.observer.reconnected(self.topic.key.method.name(), Reconnect::Lost(status.code()));
                let wait = self.backoff.next(&*self.env.random);
                tracing::debug!(watch = self.topic.key.method.name(), %status, ?wait, "reopening a topic");
                self.note_failure(&status);
                self.env.clock.sleep(wait).await;
                match self.opening(Duration::ZERO).await {
                    Ok(opened) if self.goes_on(&opened) => break Live::new(opened),
                    Ok(_) => return,
                    Err(failed) => status = failed,
                }
            };
        }
    }

    /// Reads one stream, changing over to its successors when its owner asks for it.
    async fn follow(&mut self, live: &mut Live) -> End {
        let mut successor: Option<Opening> = None;
        let mut heard = self.env.clock.now();
        let mut alarm = self.alarm(heard, live.silence);
        loop {
            tokio::select! {
                frame = live.stream.next() => {
                    heard = self.env.clock.now();
                    let end = match frame {
                        Some(Ok(frame)) => match self.take(live, frame) {
                            Ok(None) => continue,
                            Ok(Some(after)) => {
                                successor = Some(self.opening(after));
                                continue;
                            }
                            Err(end) => end,
                        },
                        Some(Err(status)) => End::Lost(status),
                        None => End::Lost(Status::unavailable("the stream ended")),
                    };
                    // Drained before the next one was open: that one is all we have.
                    let Some(next) = successor.take() else { return end };
                    match next.await {
                        Ok(next) if self.goes_on(&next) => self.change_over(live, next),
                        Ok(_) => return End::NoMore,
                        Err(status) => return End::Lost(status),
                    }
                }
                Some(opened) = OptionFuture::from(successor.as_mut()) => {
                    successor = None;
                    match opened {
                        Ok(next) if self.goes_on(&next) => {
                            self.change_over(live, next);
                            heard = self.env.clock.now();
                        }
                        Ok(_) => return End::NoMore,
                        // The old stream is good until it ends.
                        Err(_) => {}
                    }
                }
                Some(_) = self.retired.next() => {}
                () = &mut alarm => {
                    if self.env.clock.now().since(heard) >= live.silence {
                        return End::Lost(Status::unavailable("no data for two and a half heartbeats"));
                    }
                    alarm = self.alarm(heard, live.silence);
                }
            }
        }
    }

    /// Takes a frame. Some = the next stream is to be opened after this time.
    fn take(&mut self, live: &mut Live, frame: Frame) -> Result<Option<Duration>, End> {
        let lost = |what| End::Lost(broken(what));
        let from = live.link.at();
        match live.link.accept(&frame).map_err(lost)? {
            Kind::Delta { to, more } => {
                let chain = live.chain.get_or_insert_with(|| Chain { from, pages: Vec::new(), bytes: 0 });
                chain.bytes += frame.body.len();
                if chain.bytes <= self.topic.most_bytes() {
                    chain.pages.push(Page { body: frame.body, to });
                } else {
                    chain.pages.clear();
                }
                if !more && let Some(Chain { from, pages, .. }) = live.chain.take() {
                    self.stall.progressed();
                    match Group::new(from, pages) {
                        Some(group) => self.topic.publish(group).map_err(lost)?,
                        None => self.topic.skip_to(to),
                    }
                }
            }
            Kind::Bookmark(bookmark) if !bookmark.resume_token.is_empty() => {
                self.backoff.reset();
                self.stall.progressed();
                self.topic.mark(Mark { body: frame.body, rev: bookmark.rev, token: bookmark.resume_token });
            }
            Kind::Bookmark(_) | Kind::AuthExpiring | Kind::Hello(_) => {}
            Kind::Reset | Kind::SnapshotBegin | Kind::SnapshotChunk | Kind::SnapshotEnd(_) => {
                return Err(End::NoMore);
            }
            Kind::Drain(drain) => {
                let after = drain.reconnect_after.and_then(|d| Duration::try_from(d).ok());
                return Ok(Some(after.unwrap_or_default()));
            }
        }
        Ok(None)
    }

    /// Reports failures without progress.
    fn note_failure(&mut self, status: &Status) {
        let watch = self.topic.key.method.name();
        if let Some(lasted) = self.stall.failed(self.env.clock.now()) {
            let (position, _) = self.topic.position();
            tracing::warn!(watch, position, ?lasted, %status, "a topic makes no progress");
            self.observer.stalled(watch, status.code());
        }
    }

    fn change_over(&mut self, live: &mut Live, next: Opened) {
        let old = std::mem::replace(live, Live::new(next));
        self.retired.push(old.stream);
        self.observer.reconnected(self.topic.key.method.name(), Reconnect::Drained);
    }

    /// Opens a stream from the position that is reached then.
    fn opening(&self, after: Duration) -> Opening {
        let (topic, owners, clock) =
            (Arc::clone(&self.topic), Arc::clone(&self.owners), Arc::clone(&self.env.clock));
        Box::pin(async move {
            if after > Duration::ZERO {
                clock.sleep(after).await;
            }
            let (after_rev, resume_token) = topic.position();
            let options = foundry_proto::watch::v1::WatchOptions { resume_token, after_rev, heartbeat: None };
            owners.open(topic.key.method, &topic.request, options).await
        })
    }

    fn goes_on(&self, opened: &Opened) -> bool {
        opened.hello.resumed && self.topic.is_of(&opened.hello.incarnation)
    }

    fn alarm(&self, heard: Timestamp, silence: Duration) -> BoxFuture<'static, ()> {
        let clock = Arc::clone(&self.env.clock);
        let left = heard.plus(silence).since(clock.now());
        Box::pin(async move { clock.sleep(left).await })
    }
}
