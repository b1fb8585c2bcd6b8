//! Reads the stream, opens the next one, and never stops reading an open one.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Timestamp};
use foundry_frame::Frame;
use foundry_proto::watch::v1::WatchOptions;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::SelectAll;
use futures::{FutureExt as _, Stream, StreamExt as _};
use prost::Message;
use tonic::{Code, Status};

use super::backoff::Backoff;
use super::inbox::Inbox;
use super::link::{Link, Step, Violation};
use super::stall::Stall;
use super::{ConsumerConfig, Event};
use crate::{Position, Reconnect};

const RESETS: usize = 3;
const RESETS_WITHIN: Duration = Duration::from_secs(60);
/// Streams that failed at the same position, each with something that could not be received, before the position is
/// given up.
const FAILED_AT_POSITION: u32 = 3;

/// Why a stream has ended.
enum End {
    /// It was lost, or could not be opened; worth a retry.
    Lost(Status),
    /// The credentials are no longer valid.
    Unauthenticated(Status),
    /// A retry cannot fix it.
    Final(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated => Self::Unauthenticated(status),
            Code::PermissionDenied | Code::InvalidArgument | Code::NotFound | Code::Unimplemented => {
                Self::Final(status)
            }
            _ => Self::Lost(status),
        }
    }
}

/// An open stream whose hello was received.
struct Live<T, S> {
    stream: S,
    link: Link<T>,
}

pub(crate) struct Pump<T, O, S> {
    env: Env,
    config: ConsumerConfig,
    open: O,
    inbox: Arc<Inbox<T>>,
    position: Option<Position>,
    silence: Duration,
    backoff: Backoff,
    stall: Stall,
    /// Whether the current stream has opened.
    opened: bool,
    /// Streams in a row that opened and then broke at the current position.
    broken_here: u32,
    refreshed: bool,
    resets: VecDeque<Timestamp>,
    /// Replaced streams, which are read to their end, since cancelling them could cost their connection.
    retired: SelectAll<S>,
}

/// An opened stream, its first frame and the position in its request.
type Opened<S> = (S, Frame, Option<i64>);
type Opening<S> = BoxFuture<'static, Result<Opened<S>, Status>>;

impl<T, O, F, S> Pump<T, O, S>
where
    T: Message + Default + 'static,
    O: Fn(WatchOptions) -> F + Send + Sync + 'static,
    F: Future<Output = Result<S, Status>> + Send + 'static,
    S: Stream<Item = Result<Frame, Status>> + Send + Unpin + 'static,
{
    pub(crate) fn new(env: Env, config: ConsumerConfig, open: O, inbox: Arc<Inbox<T>>) -> Self {
        let position = config.position.clone();
        let silence = config.heartbeat.mul_f64(2.5);
        let backoff = Backoff::capped(config.longest_wait);
        Self {
            env,
            config,
            open,
            inbox,
            position,
            silence,
            backoff,
            stall: Stall::default(),
            opened: false,
            broken_here: 0,
            refreshed: false,
            resets: VecDeque::new(),
            retired: SelectAll::new(),
        }
    }

    /// Watches until an error that cannot be fixed.
    pub(crate) async fn run(mut self) -> Status {
        loop {
            self.opened = false;
            let status = match self.session().await {
                End::Final(status) => return status,
                End::Lost(status) => status,
                End::Unauthenticated(status) => {
                    if let Some(refresh) = self.config.refresh.clone() {
                        if let Err(status) = refresh().await {
                            return status;
                        }
                        if !std::mem::replace(&mut self.refreshed, true) {
                            self.note_reconnect(Reconnect::Lost(status.code()));
                            continue;
                        }
                    }
                    status
                }
            };
            self.note_reconnect(Reconnect::Lost(status.code()));
            let retry_in = self.backoff.next(&*self.env.random);
            tracing::debug!(watch = self.config.name, %status, ?retry_in, "reopening a watch");
            self.note_failure(&status);
            self.inbox.push(Event::Disconnected { status, retry_in });
            self.env.clock.sleep(retry_in).await;
        }
    }

    /// From opening a stream to its end, replacing it by a new one on the way when the server drains.
    async fn session(&mut self) -> End {
        let mut live =
            match self.opening(Duration::ZERO).await.map_err(End::from).and_then(|o| self.accept_hello(o)) {
                Ok(live) => live,
                Err(end) => return end,
            };
        let mut successor: Option<Opening<S>> = None;
        let mut heard = self.env.clock.now();
        let mut alarm = self.alarm(heard);
        loop {
            tokio::select! {
                frame = live.stream.next() => {
                    heard = self.env.clock.now();
                    let end = match frame {
                        Some(Ok(frame)) => match self.take(&mut live, &frame) {
                            Ok(None) => continue,
                            Ok(Some(reconnect_after)) => {
                                successor = Some(self.opening(reconnect_after));
                                continue;
                            }
                            Err(end) => end,
                        },
                        Some(Err(status)) => End::from(status),
                        None => End::Lost(Status::unavailable("the stream ended")),
                    };
                    // It was drained before the next one was open, which is now the only one.
                    let Some(next) = successor.take() else { return end };
                    match next.await.map_err(End::from).and_then(|o| self.accept_hello(o)) {
                        Ok(next) => {
                            self.note_reconnect(Reconnect::Drained);
                            live = next;
                        }
                        Err(end) => return end,
                    }
                }
                Some(opened) = OptionFuture::from(successor.as_mut()) => {
                    successor = None;
                    // If opening failed, the old stream is still used until it ends.
                    if let Ok(next) = opened.map_err(End::from).and_then(|o| self.accept_hello(o)) {
                        let old = std::mem::replace(&mut live, next);
                        self.retired.push(old.stream);
                        self.note_reconnect(Reconnect::Drained);
                        heard = self.env.clock.now();
                    }
                }
                Some(_) = self.retired.next() => {}
                () = &mut alarm => {
                    if self.env.clock.now().since(heard) >= self.silence {
                        return End::Lost(Status::unavailable("no data for two and a half heartbeats"));
                    }
                    alarm = self.alarm(heard);
                }
            }
        }
    }

    /// Opens a stream after this time, from the position reached by then, and waits for its first frame.
    fn opening(&self, after: Duration) -> Opening<S> {
        let (clock, silence) = (Arc::clone(&self.env.clock), self.silence);
        let position = self.position.clone().unwrap_or_default();
        let asked = self.position.as_ref().map(|p| p.rev);
        let options = WatchOptions {
            after_rev: if position.resume_token.is_empty() { 0 } else { position.rev },
            resume_token: position.resume_token,
            heartbeat: prost_types::Duration::try_from(self.config.heartbeat).ok(),
        };
        let opened = (self.open)(options);
        async move {
            if after > Duration::ZERO {
                clock.sleep(after).await;
            }
            let first = async {
                let mut stream = opened.await?;
                let none = || Err(Status::unavailable("the stream ended before its first frame"));
                let frame = stream.next().await.unwrap_or_else(none)?;
                Ok((stream, frame, asked))
            };
            tokio::select! {
                first = first => first,
                () = clock.sleep(silence) => Err(Status::unavailable("the stream did not open in time")),
            }
        }
        .boxed()
    }

    fn accept_hello(&mut self, (stream, frame, asked): Opened<S>) -> Result<Live<T, S>, End> {
        let mut link = Link::new(asked);
        match link.accept(&frame) {
            Ok(Step::Hello { server, heartbeat, resumed }) => {
                self.silence = heartbeat.unwrap_or(self.config.heartbeat).mul_f64(2.5);
                self.opened = true;
                self.inbox.push(Event::Connected { server, resumed });
                Ok(Live { stream, link })
            }
            Ok(_) => Err(self.broken(&Violation::OutOfPlace("no hello"))),
            Err(violation) => Err(self.broken(&violation)),
        }
    }

    /// Processes one frame. Some = open the next stream after this time.
    fn take(&mut self, live: &mut Live<T, S>, frame: &Frame) -> Result<Option<Duration>, End> {
        match live.link.accept(frame).map_err(|violation| self.broken(&violation))? {
            Step::Nothing | Step::Hello { .. } => {}
            Step::Snapshot { rows, position } => {
                self.progressed();
                self.position = Some(position.clone());
                self.inbox.push(Event::Snapshot { rows, position });
            }
            Step::Delta { mut changes, to } => {
                let position = self.position.get_or_insert_default();
                // After a replacement, the new stream may repeat the last changes of the old one.
                changes.retain(|c| c.version > position.rev);
                let further = to > position.rev;
                position.rev = position.rev.max(to);
                if !changes.is_empty() {
                    let position = position.clone();
                    self.inbox.push(Event::Delta { changes, position });
                }
                if further {
                    self.progressed();
                }
            }
            Step::Bookmark { position, caught_up } => {
                let known = self.position.get_or_insert_default();
                if position.rev >= known.rev {
                    *known = position;
                }
                if caught_up {
                    let position = known.clone();
                    self.progressed();
                    self.backoff.reset();
                    self.refreshed = false;
                    self.inbox.push(Event::CaughtUp { position });
                }
            }
            Step::Reset(reason) => {
                self.position = None;
                self.inbox.push(Event::Reset { reason });
                self.note_reset()?;
            }
            Step::AuthExpiring(at) => self.inbox.push(Event::AuthExpiring { at }),
            Step::Drain { reconnect_after } => return Ok(Some(reconnect_after)),
        }
        Ok(None)
    }

    fn note_reconnect(&self, why: Reconnect) {
        self.config.observer.reconnected(self.config.name, why);
    }

    fn progressed(&mut self) {
        self.stall.progressed();
        self.broken_here = 0;
    }

    /// Reports failures without progress, and gives up a position at which each stream breaks.
    fn note_failure(&mut self, status: &Status) {
        let position = self.position.as_ref().map(|p| p.rev);
        if let Some(lasted) = self.stall.failed(self.env.clock.now()) {
            tracing::warn!(watch = self.config.name, ?position, ?lasted, %status, "a watch makes no progress");
            self.config.observer.stalled(self.config.name, status.code());
        }
        // Frames that are too large or malformed; anything else concerns the server, not the position.
        if self.opened && matches!(status.code(), Code::OutOfRange | Code::DataLoss) {
            self.broken_here += 1;
        }
        if self.broken_here >= FAILED_AT_POSITION && position.is_some() {
            tracing::warn!(watch = self.config.name, ?position, %status,
                "each stream breaks at this position; starting from a snapshot");
            self.position = None;
            self.broken_here = 0;
        }
    }

    fn note_reset(&mut self) -> Result<(), End> {
        let now = self.env.clock.now();
        self.resets.retain(|at| now.since(*at) < RESETS_WITHIN);
        self.resets.push_back(now);
        if self.resets.len() < RESETS {
            return Ok(());
        }
        self.resets.clear();
        self.backoff.raise_to_cap();
        Err(End::Lost(Status::unavailable("three resets within a minute")))
    }

    /// A broken stream is reopened; a broken snapshot makes the position invalid.
    fn broken(&mut self, violation: &Violation) -> End {
        tracing::warn!(watch = self.config.name, %violation, "a watch violated the contract");
        if matches!(violation, Violation::Snapshot { .. }) {
            self.position = None;
        }
        End::Lost(Status::data_loss(violation.to_string()))
    }

    fn alarm(&self, heard: Timestamp) -> BoxFuture<'static, ()> {
        foundry_core::sleep_until(&self.env.clock, heard.plus(self.silence))
    }
}
