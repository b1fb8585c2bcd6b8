//! A watcher that connects and disconnects. It logs every frame for the oracle, and resumes at positions that it
//! received.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::Env;
use foundry_frame::{Frame, RawBody, RawChange, RawOp};
use foundry_proto::task::v1::{WatchOrganizationRequest, WatchTaskRequest};
use foundry_proto::watch::v1::{Bookmark, SnapshotEnd, WatchOptions};
use foundry_watch::oracle::{ClientLog, StreamLog};
use foundry_watch::row_digest;
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::sync::watch;
use tonic::{Code, Status, Streaming};

use crate::Caller;
use crate::seeded_rng::SeededRng;

/// The requested interval of bookmarks, and the silence after which a stream is abandoned.
const HEARTBEAT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(12_500);

/// The view that a watcher follows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// The summary of the caller's organization.
    Organization,
    /// A task and its sessions, by the task's id.
    Task(String),
}

/// Rows by key: version and encoded item.
pub type Rows = BTreeMap<String, (i64, Bytes)>;

/// The progress of the test. Watchers and writers wait for these values instead of for time.
pub struct Progress {
    /// Whether the mesh is running.
    pub up: watch::Sender<bool>,
    /// The newest acknowledged revision.
    pub head: watch::Sender<i64>,
    /// Number of changes that the watchers have received.
    pub delivered: watch::Sender<usize>,
    /// Number of streams that resumed at a position.
    pub resumed: watch::Sender<usize>,
    /// Whether writing has ended.
    pub over: watch::Sender<bool>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            up: watch::Sender::new(true),
            head: watch::Sender::new(0),
            delivered: watch::Sender::new(0),
            resumed: watch::Sender::new(0),
            over: watch::Sender::new(false),
        }
    }
}

impl Progress {
    /// Waits until the mesh is running and then a random delay, like a client that backs off.
    pub async fn back_off(&self, rng: &mut SeededRng) {
        let _ = self.up.subscribe().wait_for(|up| *up).await;
        Env::system().clock.sleep(Duration::from_millis(10 + rng.below(90))).await;
    }
}

/// Whether an error is final, so that the client must not simply retry.
pub fn is_refusal(status: &Status) -> bool {
    use Code::{InvalidArgument, NotFound, PermissionDenied, Unauthenticated, Unimplemented};
    matches!(status.code(), InvalidArgument | NotFound | PermissionDenied | Unauthenticated | Unimplemented)
}

/// A position that was received, and the rows at that position.
#[derive(Clone)]
struct Shown {
    rev: i64,
    token: String,
    rows: Arc<Rows>,
}

/// A client that watches one view and logs what it receives.
pub struct Watcher {
    /// The view that it follows.
    pub view: View,
    /// All frames that it has received, by stream.
    pub log: ClientLog,
    caller: Caller,
    rng: SeededRng,
    shown: Vec<Shown>,
    token: String,
    rows: Rows,
    staging: Rows,
    drained: bool,
}

impl Watcher {
    /// A watcher that has received nothing yet. `number` seeds its random choices.
    pub fn new(number: u64, caller: Caller, view: View) -> Self {
        Self {
            log: ClientLog { name: format!("watcher {number} of {view:?}"), ..ClientLog::default() },
            view,
            caller,
            rng: SeededRng::new(number),
            shown: Vec::new(),
            token: String::new(),
            rows: Rows::new(),
            staging: Rows::new(),
            drained: false,
        }
    }

    /// The last position received; 0 for none.
    pub fn at(&self) -> i64 {
        self.shown.last().map_or(0, |shown| shown.rev)
    }

    /// The rows at the last position.
    pub fn rows(&self) -> &Rows {
        static NONE: Rows = Rows::new();
        self.shown.last().map_or(&NONE, |shown| &shown.rows)
    }

    /// Opens one stream after the other and leaves each at a random point, until the test is over.
    pub async fn roam(mut self, progress: Arc<Progress>) -> Self {
        while !*progress.over.borrow() {
            let resume = self.choose();
            let frames = 10 + self.rng.below(150);
            let lag = (self.rng.below(6) == 0).then(|| *progress.head.borrow() + 150);
            self.stream(resume, &progress, frames, lag, i64::MAX).await;
        }
        self
    }

    /// Resumes at the newest position, until it has received a revision.
    pub async fn settle(mut self, progress: Arc<Progress>, rev: i64) -> Self {
        loop {
            let resume = self.shown.last().cloned();
            if self.stream(resume, &progress, u64::MAX, None, rev).await {
                return self;
            }
        }
    }

    /// Where to resume: mostly at the last position, sometimes at an earlier one, rarely from the start.
    fn choose(&mut self) -> Option<Shown> {
        match self.rng.below(12) {
            0 => None,
            1..4 if !self.shown.is_empty() => {
                let at = self.rng.below(self.shown.len() as u64);
                self.shown.get(usize::try_from(at).unwrap_or(0)).cloned()
            }
            _ => self.shown.last().cloned(),
        }
    }

    async fn open(&self, resume: Option<&Shown>) -> Result<Streaming<Frame>, Status> {
        let options = Some(WatchOptions {
            resume_token: resume.map(|at| at.token.clone()).unwrap_or_default(),
            after_rev: resume.map_or(0, |at| at.rev),
            heartbeat: Some(prost_types::Duration { seconds: HEARTBEAT.as_secs().cast_signed(), nanos: 0 }),
        });
        let mut client = self.caller.task();
        let opened = match &self.view {
            View::Organization => {
                let organization_id = self.caller.organization_id.clone();
                client.watch_organization(WatchOrganizationRequest { options, organization_id }).await
            }
            View::Task(id) => client.watch_task(WatchTaskRequest { options, task_id: id.clone() }).await,
        };
        Ok(opened?.into_inner())
    }

    /// Watches for a number of frames, or until a revision is received, which makes the result true. With `lag`, it
    /// reads nothing before the acknowledged revision has reached that value.
    async fn stream(
        &mut self,
        resume: Option<Shown>,
        progress: &Progress,
        frames: u64,
        lag: Option<i64>,
        until: i64,
    ) -> bool {
        let settling = until < i64::MAX;
        let mut over = progress.over.subscribe();
        let mut stream = match self.open(resume.as_ref()).await {
            Ok(stream) => stream,
            Err(status) => {
                assert!(!is_refusal(&status), "{}: {status}", self.log.name);
                progress.back_off(&mut self.rng).await;
                return false;
            }
        };
        let mut log = StreamLog { resumed_at: resume.as_ref().map(|at| at.rev), ..StreamLog::default() };
        self.begin(resume);
        if let Some(lag) = lag {
            let mut head = progress.head.subscribe();
            tokio::select! {
                _ = head.wait_for(|head| *head >= lag) => {}
                _ = over.wait_for(|over| *over) => {}
            }
        }
        let mut done = false;
        while !done && (log.frames.len() as u64) < frames {
            let next = tokio::select! {
                biased;
                _ = over.wait_for(|over| *over), if !settling => break,
                next = tokio::time::timeout(SILENCE, stream.message()) => next,
            };
            let frame = match next {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => {
                    assert!(self.drained, "{}: a stream ended as if all was said", self.log.name);
                    break;
                }
                Ok(Err(status)) => {
                    assert!(!is_refusal(&status), "{}: {status}", self.log.name);
                    break;
                }
                Err(_silence) => break,
            };
            let changes = self.take(&frame);
            progress.delivered.send_modify(|n| *n += changes);
            log.frames.push(frame);
            done = self.at_of_stream(&log) >= until;
        }
        if log.resumed_at.is_some() && log.frames.len() > 1 {
            progress.resumed.send_modify(|n| *n += 1);
        }
        self.log.streams.push(log);
        done
    }

    /// The last position received on this stream; 0 before its first.
    fn at_of_stream(&self, log: &StreamLog) -> i64 {
        if log.frames.len() > 1 { self.at() } else { 0 }
    }

    fn begin(&mut self, resume: Option<Shown>) {
        (self.rows, self.token) = resume.map(|at| ((*at.rows).clone(), at.token)).unwrap_or_default();
        self.drained = false;
    }

    /// Applies a frame to the rows; returns the number of changes if it is a delta.
    fn take(&mut self, frame: &Frame) -> usize {
        let body = frame.raw().expect("a frame").body.expect("a body");
        match body {
            RawBody::SnapshotBegin(_) => self.staging = Rows::new(),
            RawBody::SnapshotChunk(chunk) => fold(&mut self.staging, &chunk.changes),
            RawBody::SnapshotEnd(bytes) => {
                let end = SnapshotEnd::decode(bytes).expect("the end of a snapshot");
                let digest = self.staging.iter().fold(0, |d, (key, (rev, _))| d ^ row_digest(key, *rev));
                assert_eq!(digest, end.digest, "{}: the digest of a snapshot", self.log.name);
                (self.rows, self.token) = (std::mem::take(&mut self.staging), end.resume_token);
                self.show(end.rev);
            }
            RawBody::Delta(delta) => {
                fold(&mut self.rows, &delta.changes);
                if !delta.more {
                    self.show(delta.to_rev);
                }
                return delta.changes.len();
            }
            RawBody::Bookmark(bytes) => {
                let bookmark = Bookmark::decode(bytes).expect("a bookmark");
                if !bookmark.resume_token.is_empty() {
                    self.token = bookmark.resume_token;
                    self.show(bookmark.rev);
                }
            }
            RawBody::Drain(_) => self.drained = true,
            RawBody::Hello(_) | RawBody::Reset(_) | RawBody::AuthExpiring(_) => {}
        }
        0
    }

    fn show(&mut self, rev: i64) {
        self.shown.push(Shown { rev, token: self.token.clone(), rows: Arc::new(self.rows.clone()) });
    }
}

fn fold(rows: &mut Rows, changes: &[RawChange]) {
    for change in changes {
        match &change.op {
            Some(RawOp::Upsert(item)) => {
                rows.insert(change.key.clone(), (change.version, item.clone()));
            }
            _ => {
                rows.remove(&change.key);
            }
        }
    }
}
