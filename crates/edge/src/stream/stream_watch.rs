//! One watch as its stream sends it: frames renumbered for this caller, from its reader first and
//! from the topic once it is a member there.

use std::sync::Arc;

use bytes::Bytes;
use foundry_core::Timestamp;
use foundry_frame::Frame;
use foundry_watch::{Beginning, Observer};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::watchers::Counted;
use crate::catch_up::{Item, Membership, ReadAhead, Slot};
use crate::permission::{Grant, Judgement};
use crate::topic::frames::broken;
use crate::topic::{Mark, Next};
use crate::watch_request::WatchRequest;

/// Their name in the metrics of watches.
const SUBSCRIPTION: &str = "EdgeSubscription";

/// What a watch has to say at its turn.
pub(crate) enum Due {
    /// Responses of its rpc.
    Frames(Vec<Frame>),
    Nothing,
    /// The topic has moved on: it must catch up by a stream of its own.
    Lagging(Box<Membership>),
    /// Its owner must be asked again before anything is sent.
    NeedsAuthorization,
    /// It was refused as what its caller was before: it begins again.
    Restart,
    /// The owner shows it by another view now.
    ViewChanged,
    /// It is over.
    End(Status),
}

/// One watch of a stream.
pub(crate) struct StreamWatch {
    pub(crate) wanted: Arc<WatchRequest>,
    pub(crate) slot: Arc<Slot>,
    /// Ends its work.
    stop: CancellationToken,
    observer: Arc<dyn Observer>,
    /// It is one of its user's watches.
    _counted: Counted,
    seq: u64,
    sent: i64,
    membership: Option<Box<Membership>>,
    grant: Option<(Grant, u64)>,
    is_asked: bool,
    bookmarked: Timestamp,
}

impl StreamWatch {
    pub(crate) fn new(
        wanted: Arc<WatchRequest>,
        slot: Arc<Slot>,
        stop: CancellationToken,
        observer: Arc<dyn Observer>,
        counted: Counted,
    ) -> Self {
        let resumes = !wanted.options.resume_token.is_empty();
        observer.opened(SUBSCRIPTION, if resumes { Beginning::Resumed } else { Beginning::New });
        Self {
            wanted,
            slot,
            stop,
            observer,
            _counted: counted,
            seq: 0,
            sent: 0,
            membership: None,
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
    pub(crate) fn take(&mut self, now: Timestamp, epoch: u64) -> Due {
        match self.slot.take_judgement() {
            Some(Judgement { outcome: Ok(grant), epoch: good_for }) => {
                self.is_asked = false;
                let before = self.grant.replace((grant.clone(), good_for));
                if before.is_some_and(|(before, _)| before.view != grant.view) {
                    return Due::ViewChanged;
                }
            }
            Some(Judgement { outcome: Err(_), epoch: good_for }) if good_for != epoch => {
                self.is_asked = false;
                if self.grant.is_none() {
                    return Due::Restart;
                }
            }
            Some(Judgement { outcome: Err(status), .. }) => return Due::End(status),
            None => {}
        }
        match &self.grant {
            None => return Due::Nothing,
            Some((_, good_for)) if *good_for != epoch => {
                let asked = std::mem::replace(&mut self.is_asked, true);
                return if asked { Due::Nothing } else { Due::NeedsAuthorization };
            }
            Some(_) => {}
        }
        if self.membership.is_some() {
            return self.read_topic(now);
        }
        match self.slot.take() {
            ReadAhead::Item(item) => Due::Frames(vec![self.read_item(item)]),
            ReadAhead::Membership(membership) => {
                self.membership = Some(membership);
                // Its reader has just sent its position.
                self.bookmarked = now;
                self.read_topic(now)
            }
            ReadAhead::End(status) => Due::End(status),
            ReadAhead::Nothing => Due::Nothing,
        }
    }

    /// It is read through another slot from here on.
    pub(crate) fn restart(&mut self, slot: Arc<Slot>, stop: CancellationToken) {
        self.stop.cancel();
        (self.slot, self.stop, self.membership, self.is_asked) = (slot, stop, None, false);
    }

    /// What ends its work.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    fn read_item(&mut self, item: Item) -> Frame {
        if let Some(from) = item.from {
            self.sent = from;
        }
        self.frame(item.body, item.at)
    }

    fn read_topic(&mut self, now: Timestamp) -> Due {
        let Some(mut membership) = self.membership.take() else { return Due::Nothing };
        let next = membership.lease.topic().next(membership.generation, self.sent);
        let took = match next {
            Next::Behind => return Due::Lagging(membership),
            Next::Group { group, inside } => {
                let trimmed = if inside { group.beyond(self.sent).map(Arc::new) } else { Ok(group) };
                match trimmed {
                    Ok(group) => {
                        let pages = group.pages().iter();
                        let frames = pages.map(|page| self.frame(page.body.clone(), page.to)).collect();
                        membership.track.advance(self.sent);
                        Due::Frames(frames)
                    }
                    Err(what) => Due::End(broken(what)),
                }
            }
            Next::Current(Some(mark)) if self.is_due(&mark, now) => {
                self.bookmarked = now;
                membership.track.advance(mark.rev);
                membership.track.take_token(&mark.token);
                Due::Frames(vec![self.frame(mark.body, mark.rev)])
            }
            Next::Current(_) => Due::Nothing,
        };
        self.membership = Some(membership);
        took
    }

    /// A bookmark is news when its caller is not beyond it, and had none for about a heartbeat.
    fn is_due(&self, mark: &Mark, now: Timestamp) -> bool {
        mark.rev >= self.sent && now.since(self.bookmarked) >= self.wanted.heartbeat.mul_f64(0.75)
    }

    fn frame(&mut self, body: Bytes, to: i64) -> Frame {
        self.seq += 1;
        let frame = Frame { seq: self.seq, from_rev: self.sent, body };
        self.sent = to;
        frame
    }
}

impl Drop for StreamWatch {
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
    use crate::stream::Watchers;
    use crate::watch_request::Watchable;

    fn watch() -> StreamWatch {
        let wanted = WatchRequest {
            sub_id: 1,
            method: Watchable { path: "/p.S/WatchThing", service: "s" },
            request: Bytes::new(),
            options: WatchOptions::default(),
            heartbeat: Duration::from_secs(15),
        };
        let slot = Arc::new(Slot::new(1, Arc::default()));
        let counted = Watchers::new(1).enter(&"a".into()).unwrap();
        StreamWatch::new(Arc::new(wanted), slot, CancellationToken::new(), Arc::new(NoObserver), counted)
    }

    fn refusal(epoch: u64) -> Judgement {
        Judgement { outcome: Err(Status::not_found("no")), epoch }
    }

    #[test]
    fn a_refusal_of_what_the_caller_was_before_does_not_end_a_watch() {
        let now = Timestamp::default();
        let mut new = watch();
        new.slot.judge(refusal(0));
        assert!(matches!(new.take(now, 1), Due::Restart));
        new.slot.judge(refusal(1));
        assert!(matches!(new.take(now, 1), Due::End(_)));

        let mut granted = watch();
        let grant = Grant { view: "v".into(), request: Bytes::new(), organization: None };
        granted.slot.judge(Judgement { outcome: Ok(grant), epoch: 0 });
        assert!(matches!(granted.take(now, 0), Due::Nothing));
        assert!(matches!(granted.take(now, 1), Due::NeedsAuthorization));
        granted.slot.judge(refusal(1));
        assert!(matches!(granted.take(now, 2), Due::NeedsAuthorization), "it is asked again");
        granted.slot.judge(refusal(2));
        assert!(matches!(granted.take(now, 2), Due::End(_)));
    }
}
