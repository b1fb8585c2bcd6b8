//! A browser at the edge: one stream, split by watch, each checked by the oracle.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use foundry_frame::{Frame, RawBody};
use foundry_proto::edge::v1::edge_service_client::EdgeServiceClient;
use foundry_proto::edge::v1::watch_response::Body;
use foundry_proto::edge::v1::{self as wire, ModifyWatchesRequest, Subscription, WatchRequest};
use foundry_proto::task::v1::WatchTaskRequest;
use foundry_proto::watch::v1::{Bookmark, Hello, SnapshotEnd, WatchOptions};
use foundry_server::Upstream;
use foundry_watch::oracle::{ClientLog, History, StreamLog, check};
use prost::Message as _;
use tonic::{Status, Streaming};

use crate::mesh::{Mesh, bounded, with_token};

pub const WATCH_TASK: &str = "/foundry.task.v1.TaskService/WatchTask";

/// One watch as the browser has received it.
#[derive(Default)]
pub struct Seen {
    pub log: StreamLog,
    pub rev: i64,
    pub token: String,
    pub is_caught_up: bool,
    pub resets: usize,
    pub snapshots: usize,
    pub resumed: bool,
    pub ended: Option<wire::Ended>,
}

pub struct Browser {
    stream: Streaming<wire::WatchResponse>,
    client: EdgeServiceClient<Upstream>,
    token: String,
    pub stream_id: String,
    pub seen: BTreeMap<u32, Seen>,
    pub modified: Vec<u64>,
    pub heartbeats: usize,
    pub drain: Option<wire::Drain>,
    /// Watches in the order of their frames, and the number of the stream's frames.
    pub order: VecDeque<u32>,
    pub messages: usize,
    seq: u64,
}

/// A watch of a task, optionally from a position.
pub fn watch(sub_id: u32, task: &str, resume: Option<(&str, i64)>) -> Subscription {
    let (token, after_rev) = resume.unwrap_or_default();
    let options = WatchOptions { resume_token: token.to_owned(), after_rev, heartbeat: None };
    let request = WatchTaskRequest { options: Some(options), task_id: task.to_owned() };
    Subscription { sub_id, method: WATCH_TASK.to_owned(), request: request.encode_to_vec().into() }
}

pub fn client(mesh: &Mesh) -> EdgeServiceClient<Upstream> {
    EdgeServiceClient::new(mesh.gateway.remote().unwrap())
}

impl Browser {
    pub async fn open(mesh: &Mesh, token: &str, subscriptions: Vec<Subscription>) -> Self {
        Self::try_open(mesh, token, subscriptions).await.unwrap()
    }

    pub async fn try_open(
        mesh: &Mesh,
        token: &str,
        subscriptions: Vec<Subscription>,
    ) -> Result<Self, Status> {
        let mut client = client(mesh);
        let request = WatchRequest { subscriptions: subscriptions.clone(), heartbeat: None };
        let mut stream = bounded(client.watch(with_token(request, token))).await?.into_inner();
        let first = bounded(stream.message()).await?.unwrap();
        let (1, Some(Body::Hello(hello))) = (first.seq, first.body) else { panic!("no hello") };
        let mut browser = Self {
            stream,
            client,
            token: token.to_owned(),
            stream_id: hello.stream_id,
            seen: BTreeMap::new(),
            modified: Vec::new(),
            heartbeats: 0,
            drain: None,
            order: VecDeque::new(),
            messages: 0,
            seq: 1,
        };
        browser.expect(&subscriptions);
        Ok(browser)
    }

    /// Records the position that each watch starts from, for the oracle.
    fn expect(&mut self, subscriptions: &[Subscription]) {
        for subscription in subscriptions {
            let asked = WatchTaskRequest::decode(subscription.request.clone()).unwrap_or_default();
            let options = asked.options.unwrap_or_default();
            let resumed_at = (!options.resume_token.is_empty()).then_some(options.after_rev);
            let log = StreamLog { resumed_at, ..StreamLog::default() };
            self.seen.insert(subscription.sub_id, Seen { log, ..Seen::default() });
        }
    }

    pub async fn modify(
        &mut self,
        version: u64,
        add: Vec<Subscription>,
        remove: Vec<u32>,
    ) -> Result<u64, Status> {
        self.expect(&add);
        let request = ModifyWatchesRequest { stream_id: self.stream_id.clone(), version, add, remove };
        let answer = bounded(self.client.modify_watches(with_token(request, &self.token))).await?;
        Ok(answer.into_inner().version)
    }

    /// Reads one frame of the stream; none at its regular end.
    pub async fn next(&mut self) -> Result<Option<()>, Status> {
        let Some(response) = bounded(self.stream.message()).await? else { return Ok(None) };
        self.seq += 1;
        assert_eq!(response.seq, self.seq, "frames of the stream are numbered without a hole");
        match response.body.unwrap() {
            Body::Frames(frames) => {
                self.messages += 1;
                for frame in frames.frames {
                    self.order.push_back(frame.sub_id);
                    self.take(frame);
                }
            }
            Body::Ended(ended) => {
                let seen = self.seen.entry(ended.sub_id).or_default();
                assert!(seen.ended.is_none(), "it ends once");
                seen.ended = Some(ended);
            }
            Body::Modified(modified) => self.modified.push(modified.version),
            Body::Heartbeat(_) => self.heartbeats += 1,
            Body::Drain(drain) => self.drain = Some(drain),
            Body::AuthExpiring(_) => {}
            Body::Hello(_) => panic!("a second hello"),
        }
        Ok(Some(()))
    }

    /// Reads until `done` holds.
    pub async fn until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        bounded(async {
            while !done(self) {
                self.next().await.unwrap().expect("the stream goes on");
            }
        })
        .await;
    }

    /// Reads until a watch is at a revision or later.
    pub async fn until_at(&mut self, sub_id: u32, rev: i64) {
        self.until(|b| b.seen[&sub_id].rev >= rev).await;
    }

    pub async fn until_caught_up(&mut self, sub_id: u32) {
        self.until(|b| b.seen[&sub_id].is_caught_up).await;
    }

    /// Reads to the end of the stream; returns its status.
    pub async fn end(&mut self) -> Result<(), Status> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// Reads what has arrived already.
    pub async fn settle(&mut self) {
        while let Ok(next) = tokio::time::timeout(Duration::from_millis(150), self.next()).await {
            next.unwrap().expect("the stream goes on");
        }
    }

    /// Checks a watch against what was committed; `before` is what its browser received on earlier streams.
    pub fn check(&self, sub_id: u32, history: &History, before: &[StreamLog]) {
        let streams = before.iter().chain([&self.seen[&sub_id].log]).cloned().collect();
        let log = ClientLog { name: format!("watch {sub_id}"), streams, cut_short: false };
        if let Err(faults) = check(history, &[log]) {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            panic!("{}", faults.join("\n"));
        }
    }

    fn take(&mut self, frame: wire::SubscriptionFrame) {
        let seen = self.seen.get_mut(&frame.sub_id).expect("it was asked for");
        assert!(seen.ended.is_none(), "nothing comes after the end");
        let frame = Frame::decode(frame.response).unwrap();
        match frame.raw().unwrap().body.unwrap() {
            RawBody::Hello(bytes) => seen.resumed = Hello::decode(bytes).unwrap().resumed,
            RawBody::SnapshotEnd(bytes) => {
                let end = SnapshotEnd::decode(bytes).unwrap();
                (seen.rev, seen.token) = (end.rev, end.resume_token);
                seen.snapshots += 1;
            }
            RawBody::Delta(delta) if !delta.more => seen.rev = delta.to_rev,
            RawBody::Bookmark(bytes) => {
                let bookmark = Bookmark::decode(bytes).unwrap();
                (seen.rev, seen.token) = (bookmark.rev, bookmark.resume_token);
                seen.is_caught_up |= bookmark.caught_up;
            }
            RawBody::Reset(_) => {
                seen.resets += 1;
                seen.is_caught_up = false;
            }
            _ => {}
        }
        seen.log.frames.push(frame);
    }
}
