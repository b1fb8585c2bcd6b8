//! A server that sends what a test scripts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use foundry_core::{Env, Tasks};
use foundry_frame::{Frame, RawBody, RawChange, RawDelta, RawFrame, RawOp};
use foundry_proto::watch::v1 as wire;
use foundry_watch::{Consumer, ConsumerConfig, Event, row_digest};
use futures::channel::mpsc;
use prost::Message;
use tokio::sync::watch;
use tonic::Status;

use super::Thing;

type Frames = mpsc::UnboundedReceiver<Result<Frame, Status>>;

/// The sending end of one scripted stream.
pub struct Feeder {
    sender: mpsc::UnboundedSender<Result<Frame, Status>>,
    seq: u64,
    pub at: i64,
}

impl Feeder {
    pub fn send(&mut self, body: RawBody) {
        self.seq += 1;
        let raw = RawFrame { seq: self.seq, from_rev: self.at, body: Some(body) };
        let frame = Frame::decode(raw.encode_to_vec().as_slice()).unwrap();
        self.sender.unbounded_send(Ok(frame)).unwrap();
    }

    /// Skips a frame number.
    pub fn skip(&mut self) {
        self.seq += 1;
    }

    pub fn fail(&mut self, status: Status) {
        self.sender.unbounded_send(Err(status)).unwrap();
    }

    pub fn is_read(&self) -> bool {
        !self.sender.is_closed()
    }

    pub fn hello(&mut self, resumed_at: Option<i64>) {
        self.at = resumed_at.unwrap_or(0);
        let hello = wire::Hello {
            heartbeat: Some(prost_types::Duration { seconds: 15, nanos: 0 }),
            resumed: resumed_at.is_some(),
            ..Default::default()
        };
        self.send(RawBody::Hello(hello.encode_to_vec().into()));
    }

    /// A snapshot of rows with these keys and versions.
    pub fn snapshot(&mut self, rev: i64, rows: &[(&str, i64)]) {
        let digest = rows.iter().fold(0, |d, (k, v)| d ^ row_digest(k, *v));
        self.snapshot_with(rev, rows, i64::try_from(rows.len()).unwrap(), digest);
    }

    pub fn snapshot_with(&mut self, rev: i64, rows: &[(&str, i64)], count: i64, digest: u64) {
        self.send(RawBody::SnapshotBegin(wire::SnapshotBegin { rev }.encode_to_vec().into()));
        self.send(RawBody::SnapshotChunk(delta(rev, rows, false)));
        let end = wire::SnapshotEnd { rev, count, digest, resume_token: format!("token-{rev}") };
        self.send(RawBody::SnapshotEnd(end.encode_to_vec().into()));
        self.at = rev;
    }

    pub fn delta(&mut self, to: i64, changes: &[(&str, i64)], more: bool) {
        self.send(RawBody::Delta(delta(to, changes, more)));
        self.at = to;
    }

    pub fn bookmark(&mut self, rev: i64) {
        let bookmark = wire::Bookmark { rev, caught_up: true, resume_token: format!("token-{rev}") };
        self.send(RawBody::Bookmark(bookmark.encode_to_vec().into()));
        self.at = rev;
    }

    pub fn reset(&mut self) {
        self.send(RawBody::Reset(wire::Reset { reason: 1 }.encode_to_vec().into()));
        self.at = 0;
    }

    pub fn drain(&mut self) {
        self.send(RawBody::Drain(wire::Drain::default().encode_to_vec().into()));
    }
}

fn delta(to_rev: i64, changes: &[(&str, i64)], more: bool) -> RawDelta {
    let item: bytes::Bytes = Thing { color: "red".into(), content: Vec::new() }.encode_to_vec().into();
    let change = |(key, version): &(&str, i64)| RawChange {
        key: (*key).to_owned(),
        version: *version,
        op: Some(RawOp::Upsert(item.clone())),
    };
    RawDelta { to_rev, changes: changes.iter().map(change).collect(), more }
}

/// The streams that a consumer gets when it opens a watch, and its requests.
#[derive(Default)]
pub struct Script {
    ready: Mutex<VecDeque<Result<Frames, Status>>>,
    pub asked: Mutex<Vec<wire::WatchOptions>>,
}

impl Script {
    pub fn stream(&self) -> Feeder {
        let (sender, frames) = mpsc::unbounded();
        self.ready.lock().unwrap().push_back(Ok(frames));
        Feeder { sender, seq: 0, at: 0 }
    }

    pub fn refuse(&self, status: Status) {
        self.ready.lock().unwrap().push_back(Err(status));
    }

    pub fn opened(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub fn token(&self, index: usize) -> (String, i64) {
        let asked = self.asked.lock().unwrap();
        (asked[index].resume_token.clone(), asked[index].after_rev)
    }

    pub fn consume(self: &Arc<Self>, tasks: &Tasks, env: &Env, config: ConsumerConfig) -> Consumer<Thing> {
        let script = Arc::clone(self);
        Consumer::start(tasks, env.clone(), config, move |options| {
            script.asked.lock().unwrap().push(options);
            let next = script.ready.lock().unwrap().pop_front();
            async move {
                match next {
                    Some(next) => next,
                    // Without a script, the server hangs.
                    None => std::future::pending().await,
                }
            }
        })
    }
}

/// The next event; fails when none comes within 30 s.
pub async fn event(consumer: &mut Consumer<Thing>) -> Event<Thing> {
    let next = tokio::time::timeout(std::time::Duration::from_secs(30), consumer.next()).await;
    next.expect("no event within 30 s").expect("the consumer ended")
}

/// A short name of an event, with keys and revision where it has some.
pub fn describe(event: &Event<Thing>) -> String {
    let keys = |changes: &[foundry_watch::Change<Thing>]| {
        changes.iter().map(|c| format!("{}@{}", c.key, c.version)).collect::<Vec<_>>().join(" ")
    };
    match event {
        Event::Connected { resumed, .. } => format!("connected {resumed}"),
        Event::Snapshot { rows, position } => format!("snapshot {} [{}]", position.rev, keys(rows)),
        Event::Delta { changes, position } => format!("delta {} [{}]", position.rev, keys(changes)),
        Event::CaughtUp { position } => format!("caught up {}", position.rev),
        Event::Reset { .. } => "reset".into(),
        Event::AuthExpiring { .. } => "expiring".into(),
        Event::Disconnected { status, .. } => format!("disconnected {:?}", status.code()),
    }
}

/// Keeps a clock running until the returned sender is dropped, so that back-offs pass at once.
pub fn run_clock(clock: &Arc<foundry_testkit::MockClock>, tasks: &Tasks) -> watch::Sender<()> {
    let (stop, stopped) = watch::channel(());
    let clock = Arc::clone(clock);
    tasks.spawn("clock", async move {
        while stopped.has_changed().is_ok() {
            clock.advance(std::time::Duration::from_millis(50));
            tokio::task::yield_now().await;
        }
    });
    stop
}
