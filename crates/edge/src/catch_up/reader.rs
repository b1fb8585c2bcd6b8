//! The way of one watch to its topic: allowed by its owner, then read by a stream of its own until
//! it is caught up, then a member of the topic.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{Env, proto_duration};
use foundry_proto::watch::v1::Hello;
use foundry_watch::Backoff;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic_types::StatusExt as _;

use super::budget::{Budget, Held};
use super::slot::{Item, Membership, ReadAhead, Slot};
use super::starts::{Start, Starts};
use crate::owners::{Owners, is_final};
use crate::permission::{Asking, ask};
use crate::topic::frames::{self, Kind, broken};
use crate::topic::{Join, Key, Lease, Mark, Opened, Topics, Track};
use crate::watch_request::WatchRequest;

/// Silence after which a stream is taken for lost, where its owner names no heartbeat.
const SILENCE: Duration = Duration::from_secs(75);

/// Watches of one stream that catch up at one owner at the same time: what is not read yet need not be asked for.
const MAX_CATCH_UPS: usize = 4;

/// Those of one stream that catch up, by owner: one that is slow does not keep the others waiting. Cloning shares them.
#[derive(Clone, Default)]
pub(crate) struct CatchUpPermits(Arc<Mutex<HashMap<&'static str, Arc<Semaphore>>>>);

impl CatchUpPermits {
    async fn turn(&self, owner: &'static str) -> Option<OwnedSemaphorePermit> {
        let permits = {
            let mut permits = foundry_core::lock(&self.0);
            Arc::clone(permits.entry(owner).or_insert_with(|| Arc::new(Semaphore::new(MAX_CATCH_UPS))))
        };
        // It is never closed; and if it were, nobody needs a turn.
        permits.acquire_owned().await.ok()
    }
}

/// What a reader has while it catches up.
struct Turn {
    /// The next frame's bytes.
    next: Option<Held>,
    /// Its stream catches up with a few at a time.
    permit: Option<OwnedSemaphorePermit>,
    /// So does its user, until all that is missing is that somebody reads it.
    start: Option<Start>,
}

/// After so many tries its caller decides what becomes of a position that its owner does not have.
const TRIES_AHEAD: u32 = 3;

/// Why a private stream is over.
enum Left {
    /// The topic is read from here on.
    Member(u64, Option<Box<Opened>>),
    /// Its caller reads too slowly: what follows is asked for when it has read.
    Full,
    /// Its owner asked for it.
    Drained,
    Lost(Status),
}

/// What a reader is made of.
pub(crate) struct Reader {
    pub(crate) slot: Arc<Slot>,
    pub(crate) wanted: Arc<WatchRequest>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) topics: Topics,
    pub(crate) starts: Starts,
    pub(crate) user: Arc<str>,
    pub(crate) budget: Budget,
    pub(crate) permits: CatchUpPermits,
    pub(crate) env: Env,
    pub(crate) track: Track,
    /// Whether the caller has its hello.
    pub(crate) greeted: bool,
}

impl Reader {
    /// A new watch, from the question to its owner on.
    pub(crate) async fn begin(self, asking: Asking) {
        let judgement = ask(&self.env, &self.owners, &self.wanted, &asking).await;
        let lease = judgement.outcome.as_ref().ok().map(|grant| {
            let key = Key { method: self.wanted.method, view: grant.view.clone() };
            self.topics.lease(key, grant.request.clone(), self.slot.ready(), self.slot.sub_id())
        });
        self.slot.judge(judgement);
        if let Some(lease) = lease {
            self.read(lease).await;
        }
    }

    /// Reads until the topic can be read, or the watch cannot be had.
    pub(crate) async fn read(mut self, lease: Lease) {
        let mut backoff = Backoff::default();
        let mut tries_ahead = 0;
        loop {
            let turn = self.turn().await;
            let options = self.track.options(None);
            let topic = lease.topic();
            let left = match self.owners.open(self.wanted.method, &topic.request, options).await {
                Ok(opened) => self.follow(opened, turn, &lease, &mut backoff).await,
                Err(status) => Left::Lost(status),
            };
            let status = match left {
                Left::Member(generation, adopted) => {
                    if let Some(opened) = adopted {
                        self.topics.adopt(lease.topic(), *opened);
                    }
                    let membership = Membership { lease, generation, track: self.track };
                    return self.slot.finish(ReadAhead::Membership(Box::new(membership)));
                }
                Left::Full | Left::Drained => continue,
                Left::Lost(status) => status,
            };
            tries_ahead = if is_ahead(&status) { tries_ahead + 1 } else { 0 };
            if is_final(&status) || tries_ahead == TRIES_AHEAD {
                return self.slot.finish(ReadAhead::End(status));
            }
            if let Some(body) = self.track.cut_off() {
                self.slot.put(Item::own(body));
            }
            let wait = backoff.next(&*self.env.random);
            tracing::debug!(watch = self.wanted.method.name(), %status, ?wait, "reopening a watch");
            self.env.clock.sleep(wait).await;
        }
    }

    /// Waits until the next stream may be opened: when what was read is taken, and others had their turn.
    async fn turn(&self) -> Turn {
        self.slot.has_room().await;
        let owner = self.wanted.method.service;
        let permit = self.permits.turn(owner).await;
        loop {
            let start = Some(self.starts.turn(owner, &self.user).await);
            let next = self.budget.try_take();
            if next.is_some() {
                return Turn { next, permit, start };
            }
            // Neither is kept while the other is waited for: that may be long.
            drop(start);
            drop(self.budget.take().await);
        }
    }

    /// Sets room for the next frame aside. False = the stream is better given up until there is some.
    async fn reserve(&self, turn: &mut Turn) -> bool {
        if self.slot.is_full() {
            if self.track.is_whole() {
                return false;
            }
            // A snapshot cannot be gone on with elsewhere: it waits, and keeps nobody else waiting.
            (turn.start, turn.next) = (None, None);
            self.slot.has_room().await;
        }
        if turn.permit.is_none() || turn.next.is_some() {
            return true;
        }
        turn.next = self.budget.try_take();
        if turn.next.is_none() {
            if self.track.is_whole() {
                return false;
            }
            turn.start = None;
            turn.next = Some(self.budget.take().await);
        }
        true
    }

    async fn follow(
        &mut self,
        mut opened: Opened,
        mut turn: Turn,
        lease: &Lease,
        backoff: &mut Backoff,
    ) -> Left {
        self.greet(&opened);
        let silence = opened.hello.heartbeat.and_then(|d| Duration::try_from(d).ok());
        let silence = silence.map_or(SILENCE, |heartbeat| heartbeat.mul_f64(2.5));
        let (mut drained, mut mark) = (false, None);
        loop {
            if !self.reserve(&mut turn).await {
                return Left::Full;
            }
            let frame = tokio::select! {
                frame = opened.stream.message() => frame,
                () = self.env.clock.sleep(silence) => Err(Status::unavailable("no data for too long")),
            };
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) if drained && self.track.is_whole() => return Left::Drained,
                Ok(None) => return Left::Lost(Status::unavailable("the stream ended")),
                Err(status) => return Left::Lost(status),
            };
            let kind = match opened.link.accept(&frame) {
                Ok(kind) => kind,
                Err(what) => return Left::Lost(broken(what)),
            };
            match &kind {
                Kind::Drain(_) => drained = true,
                Kind::AuthExpiring => continue,
                Kind::Bookmark(bookmark) if bookmark.resume_token.is_empty() => continue,
                Kind::Bookmark(bookmark) if bookmark.caught_up => {
                    backoff.reset();
                    let (rev, token) = (bookmark.rev, bookmark.resume_token.clone());
                    mark = Some(Mark { body: frame.body.clone(), rev, token });
                }
                _ => {}
            }
            if matches!(kind, Kind::Drain(_)) {
                continue;
            }
            self.track.apply(&kind);
            let cost = Item::cost(&frame.body);
            let mut held = turn.next.take().unwrap_or_else(|| self.budget.count(cost));
            held.resize(cost);
            self.slot.put(Item { body: frame.body, from: None, at: opened.link.at(), _held: held });
            if drained || !self.track.is_whole() {
                continue;
            }
            // Once it knows everything, it is better read where all others read.
            if let Some(mark) = &mark {
                // What it waits for from here on may be long in coming.
                turn = Turn { next: None, permit: None, start: None };
                match lease.topic().join(&self.track, &opened.hello.incarnation, mark.clone()) {
                    Join::Adopted { generation } => return Left::Member(generation, Some(Box::new(opened))),
                    Join::Member { generation } => return Left::Member(generation, None),
                    Join::Apart => {}
                }
            }
        }
    }

    /// The caller gets one hello; later streams go on where the one before ended.
    fn greet(&mut self, opened: &Opened) {
        let at = opened.link.at();
        if opened.hello.resumed {
            self.track.resumed(at);
        }
        if !std::mem::replace(&mut self.greeted, true) {
            // Bookmarks come at its own pace, whatever that of the stream.
            let heartbeat = Some(proto_duration(self.wanted.heartbeat));
            let body = frames::hello(&Hello { heartbeat, ..opened.hello.clone() });
            let held = self.budget.count(Item::cost(&body));
            self.slot.put(Item { body, from: Some(at), at, _held: held });
        }
    }
}

/// Whether the owner does not have the position that it was asked to go on from.
fn is_ahead(status: &Status) -> bool {
    let details = status.get_error_details();
    details.error_info().is_some_and(|info| info.reason == "POSITION_AHEAD")
}
