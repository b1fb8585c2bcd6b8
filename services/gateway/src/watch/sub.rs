//! One watch as its stream sends it: frames renumbered for this caller, from its reader first and
//! from the topic once it is seated there.

use std::sync::Arc;

use bytes::Bytes;
use foundry_core::Timestamp;
use foundry_frame::Frame;
use foundry_watch::{Beginning, Observer};
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::credential::Judgement;
use super::owners::{Grant, broken};
use super::slot::{Found, Item, Seat, Slot};
use super::topic::{Mark, Next};
use super::wanted::Wanted;
use super::watchers::Counted;

/// Their name in the metrics of watches.
const SUBSCRIPTION: &str = "EdgeSubscription";

/// What a watch has to say at its turn.
pub(crate) enum Took {
    /// Encoded responses of its rpc.
    Frames(Vec<Bytes>),
    Nothing,
    /// The topic has moved on: it must catch up by a stream of its own.
    Behind(Box<Seat>),
    /// Its owner must be asked again before anything is sent.
    Unjudged,
    /// It was refused as what its caller was before: it begins again.
    Anew,
    /// The owner shows it by another view now.
    Elsewhere,
    /// It is over.
    End(Status),
}

/// One watch of a stream.
pub(crate) struct Sub {
    pub(crate) wanted: Arc<Wanted>,
    pub(crate) slot: Arc<Slot>,
    /// Ends its work.
    stop: CancellationToken,
    observer: Arc<dyn Observer>,
    /// It is one of its user's watches.
    _counted: Counted,
    seq: u64,
    sent: i64,
    seat: Option<Box<Seat>>,
    grant: Option<(Grant, u64)>,
    is_asked: bool,
    bookmarked: Timestamp,
}

impl Sub {
    pub(crate) fn new(
        wanted: Arc<Wanted>,
        slot: Arc<Slot>,
        stop: CancellationToken,
        observer: Arc<dyn Observer>,
        counted: Counted,
    ) -> Self {
        let resumes = !wanted.options.resume_token.is_empty();
        observer.opened(SUBSCRIPTION, if resumes { Beginning::Resumed } else { Beginning::Anew });
        Self {
            wanted,
            slot,
            stop,
            observer,
            _counted: counted,
            seq: 0,
            sent: 0,
            seat: None,
            grant: None,
            is_asked: false,
            bookmarked: Timestamp::default(),
        }
    }

    /// What its owner allowed last.
    pub(crate) fn grant(&self) -> Option<&Grant> {
        self.grant.as_ref().map(|(grant, _)| grant)
    }

    /// What comes next, if it is allowed in this epoch.
    pub(crate) fn take(&mut self, now: Timestamp, epoch: u64) -> Took {
        match self.slot.take_judgement() {
            Some(Judgement { outcome: Ok(grant), epoch: good_for }) => {
                self.is_asked = false;
                let before = self.grant.replace((grant.clone(), good_for));
                if before.is_some_and(|(before, _)| before.view != grant.view) {
                    return Took::Elsewhere;
                }
            }
            Some(Judgement { outcome: Err(_), epoch: good_for }) if good_for != epoch => {
                self.is_asked = false;
                if self.grant.is_none() {
                    return Took::Anew;
                }
            }
            Some(Judgement { outcome: Err(status), .. }) => return Took::End(status),
            None => {}
        }
        match &self.grant {
            None => return Took::Nothing,
            Some((_, good_for)) if *good_for != epoch => {
                let asked = std::mem::replace(&mut self.is_asked, true);
                return if asked { Took::Nothing } else { Took::Unjudged };
            }
            Some(_) => {}
        }
        if self.seat.is_some() {
            return self.read_topic(now);
        }
        match self.slot.take() {
            Found::Item(item) => Took::Frames(vec![self.read_item(item)]),
            Found::Seat(seat) => {
                self.seat = Some(seat);
                // Its reader has just told it where it is.
                self.bookmarked = now;
                self.read_topic(now)
            }
            Found::End(status) => Took::End(status),
            Found::Nothing => Took::Nothing,
        }
    }

    /// It is read through another slot from here on.
    pub(crate) fn restart(&mut self, slot: Arc<Slot>, stop: CancellationToken) {
        self.stop.cancel();
        (self.slot, self.stop, self.seat, self.is_asked) = (slot, stop, None, false);
    }

    /// What ends its work.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    fn read_item(&mut self, item: Item) -> Bytes {
        if let Some(from) = item.from {
            self.sent = from;
        }
        self.frame(item.body, item.at)
    }

    fn read_topic(&mut self, now: Timestamp) -> Took {
        let Some(mut seat) = self.seat.take() else { return Took::Nothing };
        let next = seat.lease.topic().next(seat.generation, self.sent);
        let took = match next {
            Next::Behind => return Took::Behind(seat),
            Next::Group { group, inside } => {
                let trimmed = if inside { group.beyond(self.sent).map(Arc::new) } else { Ok(group) };
                match trimmed {
                    Ok(group) => {
                        let pages = group.pages().iter();
                        let frames = pages.map(|page| self.frame(page.body.clone(), page.to)).collect();
                        seat.track.advance(self.sent);
                        Took::Frames(frames)
                    }
                    Err(what) => Took::End(broken(what)),
                }
            }
            Next::Current(Some(mark)) if self.is_due(&mark, now) => {
                self.bookmarked = now;
                seat.track.advance(mark.rev);
                seat.track.take_token(&mark.token);
                Took::Frames(vec![self.frame(mark.body, mark.rev)])
            }
            Next::Current(_) => Took::Nothing,
        };
        self.seat = Some(seat);
        took
    }

    /// A bookmark is news when its caller is not beyond it, and had none for about a heartbeat.
    fn is_due(&self, mark: &Mark, now: Timestamp) -> bool {
        mark.rev >= self.sent && now.since(self.bookmarked) >= self.wanted.heartbeat.mul_f64(0.75)
    }

    fn frame(&mut self, body: Bytes, to: i64) -> Bytes {
        self.seq += 1;
        let frame = Frame { seq: self.seq, from_rev: self.sent, body };
        self.sent = to;
        frame.encode_to_vec().into()
    }
}

impl Drop for Sub {
    fn drop(&mut self) {
        self.stop.cancel();
        self.observer.closed(SUBSCRIPTION);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use foundry_proto::watch::v1::WatchOptions;
    use foundry_watch::NoObserver;

    use super::*;
    use crate::watch::wanted::Watchable;
    use crate::watch::watchers::Watchers;

    fn sub() -> Sub {
        let wanted = Wanted {
            sub_id: 1,
            method: Watchable { path: "/p.S/WatchThing", service: "s" },
            request: Bytes::new(),
            options: WatchOptions::default(),
            heartbeat: Duration::from_secs(15),
        };
        let slot = Arc::new(Slot::new(1, Arc::default()));
        let counted = Watchers::new(1).enter(&"a".into()).unwrap();
        Sub::new(Arc::new(wanted), slot, CancellationToken::new(), Arc::new(NoObserver), counted)
    }

    fn refusal(epoch: u64) -> Judgement {
        Judgement { outcome: Err(Status::not_found("no")), epoch }
    }

    #[test]
    fn a_refusal_of_what_the_caller_was_before_does_not_end_a_watch() {
        let now = Timestamp::default();
        let mut new = sub();
        new.slot.judge(refusal(0));
        assert!(matches!(new.take(now, 1), Took::Anew));
        new.slot.judge(refusal(1));
        assert!(matches!(new.take(now, 1), Took::End(_)));

        let mut granted = sub();
        let grant = Grant { view: "v".into(), request: Bytes::new(), organization: None };
        granted.slot.judge(Judgement { outcome: Ok(grant), epoch: 0 });
        assert!(matches!(granted.take(now, 0), Took::Nothing));
        assert!(matches!(granted.take(now, 1), Took::Unjudged));
        granted.slot.judge(refusal(1));
        assert!(matches!(granted.take(now, 2), Took::Unjudged), "it is asked again");
        granted.slot.judge(refusal(2));
        assert!(matches!(granted.take(now, 2), Took::End(_)));
    }
}
