//! One stream: a cursor over its feed. Frames are built when the stream is polled, so that a slow reader costs one
//! frame and delays no other stream.

use std::time::Duration;

use foundry_core::{OnWake, Result, Timestamp, proto_duration};
use foundry_frame::Frame;
use foundry_proto::watch::v1::{Hello, ResetReason, WatchOptions};
use foundry_watch::{
    AuthorizationEvent, Beginning, DrainNotice, EndStep, StreamEnd, parse_heartbeat, parse_service_heartbeat,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tonic::Status;

use crate::body;
use crate::delivery::{Delivery, Out};
use crate::inner::{Subscription, stopping};
use crate::metrics::count;

/// The validated start of a watch.
pub(crate) struct Start {
    pub(crate) resume_token: String,
    pub(crate) after_rev: i64,
    pub(crate) heartbeat: Duration,
}

impl Start {
    /// The options of a user's watch.
    pub(crate) fn parse(options: WatchOptions) -> Result<Self> {
        let heartbeat = parse_heartbeat(options.heartbeat, "options.heartbeat")?;
        Ok(Self::with(options, heartbeat))
    }

    /// The options of a watch that a service of the mesh opens.
    pub(crate) fn parse_of_service(options: WatchOptions) -> Result<Self> {
        let heartbeat = parse_service_heartbeat(options.heartbeat, "options.heartbeat")?;
        Ok(Self::with(options, heartbeat))
    }

    fn with(options: WatchOptions, heartbeat: Duration) -> Self {
        Self { resume_token: options.resume_token, after_rev: options.after_rev, heartbeat }
    }

    /// The position that the caller resumes from, if any.
    pub(crate) fn position(&self, feed: &crate::feed::Feed) -> Result<Option<i64>, ResetReason> {
        if self.resume_token.is_empty() {
            return Ok(None);
        }
        let rev = feed.stamp.rev_of(&self.resume_token)?;
        match self.after_rev {
            0 => Ok(Some(rev)),
            after if after >= rev => Ok(Some(after)),
            _ => Err(ResetReason::TokenInvalid),
        }
    }
}

pub(crate) struct Watcher {
    delivery: Delivery,
    authorization: OnWake<BoxStream<'static, AuthorizationEvent>>,
    authorization_is_final: bool,
    end: OnWake<BoxStream<'static, EndStep>>,
    /// What came before the hello, and is sent after it.
    expiring: Option<Timestamp>,
    notice: Option<DrainNotice>,
    seq: u64,
    sent: i64,
    ended: bool,
}

impl Watcher {
    pub(crate) fn new(
        feed: Subscription,
        end: StreamEnd,
        start: Start,
        authorization: BoxStream<'static, AuthorizationEvent>,
    ) -> Self {
        let (position, reset) = match start.position(&feed.feed) {
            Ok(position) => (position, None),
            Err(reason) => (None, Some(reason)),
        };
        let hello = body::hello(&Hello {
            server: feed.hub().config.server.clone(),
            incarnation: feed.hub().store.incarnation().to_owned(),
            heartbeat: Some(proto_duration(start.heartbeat)),
            resumed: position.is_some(),
        });
        let beginning = match (position, reset) {
            (Some(_), _) => Beginning::Resumed,
            (None, Some(_)) => Beginning::Reset,
            (None, None) => Beginning::New,
        };
        if beginning == Beginning::Resumed {
            count(&feed.hub().counters.resumed);
        }
        feed.hub().config.observer.opened(feed.feed.view.name(), beginning);
        let stop = feed.hub().tasks.cancellation().clone();
        Self {
            delivery: Delivery::new(feed, start.heartbeat, hello, position, reset),
            authorization: OnWake::new(authorization),
            authorization_is_final: false,
            end: end.steps(stop),
            expiring: None,
            notice: None,
            seq: 0,
            sent: position.unwrap_or(0),
            ended: false,
        }
    }

    /// The next frame, the status that ends the stream, or `None` for the clean end after a drain.
    pub(crate) async fn next(&mut self) -> Option<Result<Frame, Status>> {
        if self.ended {
            return None;
        }
        let out = self.next_out().await;
        match out {
            Some(Ok(out)) => {
                let (body, position) = match out {
                    Out::Here(body) => (body, self.sent),
                    Out::At(body, position) => (body, position),
                    Out::KeepAlive => (body::bookmark(self.sent, false, String::new()), self.sent),
                };
                self.seq += 1;
                let frame = Frame { seq: self.seq, from_rev: self.sent, body };
                self.sent = position;
                Some(Ok(frame))
            }
            Some(Err(status)) => {
                self.ended = true;
                Some(Err(status))
            }
            None => {
                self.ended = true;
                None
            }
        }
    }

    async fn next_out(&mut self) -> Option<Result<Out, Status>> {
        loop {
            // The hello comes first.
            if self.seq > 0 {
                if let Some(at) = self.expiring.take() {
                    return Some(Ok(Out::Here(body::auth_expiring(at))));
                }
                if let Some(notice) = self.notice.take() {
                    count(&self.delivery.hub().counters.drained);
                    return Some(Ok(Out::Here(body::drain(notice))));
                }
            }
            tokio::select! {
                // In this order: a caller that lost its permission gets nothing more, even if it is ready.
                biased;
                event = self.authorization.next(), if !self.authorization_is_final => match event {
                    None => self.authorization_is_final = true,
                    Some(AuthorizationEvent::Expiring(at)) => self.expiring = Some(at),
                    Some(AuthorizationEvent::Ended(status)) => {
                        count(&self.delivery.hub().counters.revoked);
                        return Some(Err(status));
                    }
                },
                step = self.end.next() => match step {
                    Some(EndStep::Stopped) => return Some(Err(stopping().into())),
                    Some(EndStep::Notice(notice)) => self.notice = Some(notice),
                    Some(EndStep::Over) | None => return None,
                },
                out = self.delivery.next() => return Some(out),
            }
        }
    }
}
