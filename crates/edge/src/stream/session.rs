//! One stream of the edge: its watches in turn, its changes, and its end. Frames are built when
//! the stream is polled, so that a caller that does not read costs nobody else anything.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{Error, OnWake, Timestamp, proto_duration};
use foundry_frame::Frame;
use foundry_proto::edge::v1 as wire;
use foundry_proto::edge::v1::watch_response::Body;
use foundry_watch::{Beginning, DrainNotice, EndStep, StreamEnd};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use prost::Message as _;
use tonic::Status;

use super::starter::Starter;
use super::stream_frame::{Content, StreamFrame};
use super::stream_watch::{Due, StreamWatch};
use super::streams::Registered;
use crate::host::Allowance;
use crate::permission::{Guard, Notice, membership_lost};
use crate::ready_queue::ReadyQueue;
use crate::watch_request::WatchRequest;

/// Most frames of watches in one frame of the stream.
const MAX_FRAMES: usize = 64;
/// Bytes after which no further frame is packed.
const FULL_BATCH_BYTES: usize = 32 * 1024;
/// Name of the streams in the metrics of watches.
const STREAM: &str = "EdgeWatch";

/// One stream.
pub(crate) struct Session {
    registered: Registered,
    starter: Starter,
    // What a stream rarely hears of is not asked for each frame.
    guard: OnWake<Guard>,
    end: OnWake<BoxStream<'static, EndStep>>,
    changes: OnWake<BoxStream<'static, ()>>,
    alarm: OnWake<BoxFuture<'static, ()>>,
    ready: Arc<ReadyQueue>,
    watches: HashMap<u32, StreamWatch>,
    /// Said before any further frame of a watch.
    outbox: VecDeque<Body>,
    /// Changes that are in force and not confirmed yet.
    in_force: RangeInclusive<u64>,
    seq: u64,
    heartbeat: Duration,
    said: Timestamp,
    is_over: bool,
    /// Held until the stream ends.
    _allowance: Arc<dyn Allowance>,
}

impl Session {
    pub(crate) fn new(
        registered: Registered,
        starter: Starter,
        caller: &Caller,
        end: StreamEnd,
        heartbeat: Duration,
        allowance: Arc<dyn Allowance>,
    ) -> Self {
        let shared = starter.shared();
        shared.observer.opened(STREAM, Beginning::New);
        let guard = Guard::new(
            Arc::clone(registered.credential()),
            caller.clone(),
            shared.env.clone(),
            shared.tasks.clone(),
        );
        let now = shared.env.clock.now();
        Self {
            guard: OnWake::new(guard),
            end: end.steps(shared.tasks.cancellation().clone()),
            changes: registered.changes(),
            alarm: OnWake::new(starter.sleep(heartbeat)),
            ready: Arc::clone(starter.ready()),
            watches: HashMap::new(),
            outbox: VecDeque::new(),
            in_force: RangeInclusive::new(1, 0),
            seq: 0,
            heartbeat,
            said: now,
            is_over: false,
            registered,
            starter,
            _allowance: allowance,
        }
    }

    /// The next frame, the status that ends the stream, or its good end after a drain.
    pub(crate) async fn next(&mut self) -> Option<Result<StreamFrame, Status>> {
        if self.is_over {
            return None;
        }
        let content = if self.seq == 0 { Some(Ok(self.hello())) } else { self.next_content().await };
        match content {
            Some(Ok(content)) => {
                self.seq += 1;
                self.said = self.starter.shared().env.clock.now();
                Some(Ok(StreamFrame { seq: self.seq, content }))
            }
            Some(Err(status)) => {
                self.close();
                Some(Err(status))
            }
            None => {
                self.close();
                None
            }
        }
    }

    fn hello(&self) -> Content {
        Content::Edge(Body::Hello(wire::Hello {
            stream_id: self.registered.stream_id().to_owned(),
            server: "gateway".to_owned(),
            heartbeat: Some(proto_duration(self.heartbeat)),
        }))
    }

    async fn next_content(&mut self) -> Option<Result<Content, Status>> {
        loop {
            tokio::select! {
                // In this order: a caller that lost the permission gets nothing more, ready or not.
                biased;
                Some(notice) = self.guard.next() => match notice {
                    Notice::End(status) => return Some(Err(status)),
                    Notice::Expiring(at) => {
                        let expire_time = Some(at.to_proto());
                        let expiring = Body::AuthExpiring(wire::AuthExpiring { expire_time });
                        return Some(Ok(Content::Edge(expiring)));
                    }
                    Notice::Changed => self.authorize_again(),
                    Notice::Renewed => self.watches.keys().for_each(|sub_id| self.ready.call(*sub_id)),
                },
                step = self.end.next() => return match step {
                    Some(EndStep::Stopped) => Some(Err(draining().into_status())),
                    Some(EndStep::Notice(notice)) => Some(Ok(Content::Edge(drain(notice)))),
                    Some(EndStep::Over) | None => None,
                },
                () = std::future::ready(()), if self.has_mail() => {
                    return self.mail().map(|mail| Ok(Content::Edge(mail)));
                }
                Some(()) = self.changes.next() => self.change(),
                () = self.ready.wait(), if !self.guard.get().is_renewing() => {
                    if let Some(frames) = self.collect() {
                        return Some(Ok(Content::Watches(frames)));
                    }
                }
                () = &mut self.alarm => {
                    if let Some(heartbeat) = self.beat() {
                        return Some(Ok(Content::Edge(heartbeat)));
                    }
                }
            }
        }
    }

    /// Puts changes of the set in force.
    fn change(&mut self) {
        let changes = self.registered.subscriptions().take();
        for sub_id in changes.remove {
            self.watches.remove(&sub_id);
        }
        for subscription in changes.add {
            let sub_id = subscription.sub_id;
            let wanted = WatchRequest::parse(subscription, &*self.starter.shared().routes);
            match wanted.and_then(|wanted| self.starter.begin(Arc::new(wanted), self.registered.credential()))
            {
                Ok(watch) => {
                    self.watches.insert(sub_id, watch);
                }
                Err(error) => self.end(sub_id, &error.into_status()),
            }
        }
        let first = if self.in_force.is_empty() { *changes.versions.start() } else { *self.in_force.start() };
        self.in_force = first..=*changes.versions.end();
    }

    fn has_mail(&self) -> bool {
        !self.outbox.is_empty() || !self.in_force.is_empty()
    }

    fn mail(&mut self) -> Option<Body> {
        let modified = |version| Body::Modified(wire::Modified { version });
        self.outbox.pop_front().or_else(|| self.in_force.next().map(modified))
    }

    /// What the watches have to say, each in turn, as much as one frame carries.
    fn collect(&mut self) -> Option<Vec<(u32, Frame)>> {
        let now = self.starter.shared().env.clock.now();
        let epoch = self.registered.credential().epoch();
        let (mut frames, mut bytes) = (Vec::new(), 0);
        while frames.len() < MAX_FRAMES && bytes < FULL_BATCH_BYTES {
            let Some(sub_id) = self.ready.take() else { break };
            let Some(watch) = self.watches.get_mut(&sub_id) else { continue };
            match watch.take(now, epoch) {
                Due::Frames(responses) => {
                    for response in responses {
                        bytes += response.encoded_len();
                        frames.push((sub_id, response));
                    }
                    // There may be more: again after all others.
                    self.ready.call(sub_id);
                }
                Due::Nothing => {}
                Due::Lagging(membership) => self.starter.catch_up(watch, *membership),
                Due::NeedsAuthorization => self.starter.judge(watch, self.registered.credential()),
                Due::Restart => self.starter.begin_again(watch, self.registered.credential()),
                Due::ViewChanged => self.starter.restart(watch, self.registered.credential()),
                Due::End(status) => self.end(sub_id, &status),
            }
        }
        (!frames.is_empty()).then_some(frames)
    }

    /// A revocation concerns the caller: what is known to be lost ends at once; for the rest, owners are asked again.
    fn authorize_again(&mut self) {
        let credential = Arc::clone(self.registered.credential());
        let caller = self.guard.get().caller().clone();
        let lost: Vec<_> = self
            .watches
            .iter()
            .filter_map(|(sub_id, watch)| {
                let organization = watch.grant()?.organization.as_ref()?;
                credential.lost(&caller, organization).then(|| (*sub_id, membership_lost(organization)))
            })
            .collect();
        for (sub_id, error) in lost {
            self.end(sub_id, &error.into_status());
        }
    }

    fn end(&mut self, sub_id: u32, status: &Status) {
        self.watches.remove(&sub_id);
        self.registered.subscriptions().ended(sub_id);
        self.outbox.push_back(Body::Ended(wire::Ended {
            sub_id,
            code: status.code() as i32,
            message: status.message().to_owned(),
            status: bytes::Bytes::copy_from_slice(status.details()),
        }));
    }

    /// A heartbeat, if nothing was said for as long.
    fn beat(&mut self) -> Option<Body> {
        let silent = self.starter.shared().env.clock.now().since(self.said);
        let is_due = silent >= self.heartbeat;
        self.alarm.set(self.starter.sleep(if is_due { self.heartbeat } else { self.heartbeat - silent }));
        is_due.then_some(Body::Heartbeat(wire::Heartbeat {}))
    }

    fn close(&mut self) {
        self.is_over = true;
        // Watches end with their stream, not with the connection that may hold it for a while.
        self.watches.clear();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.starter.shared().observer.closed(STREAM);
    }
}

/// What a stream ends with when its process stops and no `Drain` was sent: `UNAVAILABLE`, to be retried after 250 ms.
pub fn draining() -> Error {
    Error::unavailable("DRAINING", "the gateway is stopping; connect again", Duration::from_millis(250))
        .next_action("reopen the watch with its last resume token")
}

fn drain(notice: DrainNotice) -> Body {
    Body::Drain(wire::Drain {
        reconnect_after: Some(proto_duration(notice.reconnect_after)),
        deadline_time: Some(notice.deadline.to_proto()),
    })
}
