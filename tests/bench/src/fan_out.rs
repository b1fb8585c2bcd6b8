//! The path from a committed change to a thousand watchers, and the cost of an idle watcher. Messages are read as bytes
//! on both sides: only the time stamps in them are parsed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use foundry_proto::task::v1::{UpdateTaskRequest, WatchOrganizationRequest};
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::task::JoinSet;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::commands::{connect, keep};
use crate::figures::{Figures, count, cpu_of, rss_of};
use crate::raw::{Payload, RawServer, WATCH, publish};
use crate::report::{Report, ratio};
use crate::world::{World, settle};
use crate::{PAIRS, Plan};

const WATCHES: usize = 1_000;
/// Connections that the watches share; the watching users take turns.
const CONNECTIONS: usize = 12;
const PUBLISHERS: usize = 16;
const WATCH_ORGANIZATION: &str = "/foundry.task.v1.TaskService/WatchOrganization";
/// Begins a stamp: microseconds since the start in twelve digits, then the slot in two.
const MARK: u8 = b'~';
const DIGITS: usize = 14;
/// Number of renamed tasks; each is renamed by one publisher only.
const SLOTS: usize = 64;
/// Size of a published message in bytes, about that of one change of the summary.
const PUBLISHED_BYTES: usize = 518;

/// A codec that encodes requests and returns answers as undecoded bytes.
struct Undecoded<T>(std::marker::PhantomData<T>);

impl<T: Message + 'static> Codec for Undecoded<T> {
    type Encode = T;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(std::marker::PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T: Message> Encoder for Undecoded<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(into).map_err(|e| Status::unknown(e.to_string()))
    }
}

impl<T> Decoder for Undecoded<T> {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// The stamps in a message: time and slot.
fn stamps(message: &[u8]) -> impl Iterator<Item = (u64, usize)> {
    message.windows(DIGITS + 1).filter(|w| w[0] == MARK).filter_map(|w| {
        let number = w[1..]
            .iter()
            .try_fold(0, |n: u64, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))?;
        Some((number / 100, usize::try_from(number % 100).ok()?))
    })
}

/// All watchers of one server.
struct Audience {
    begun: Instant,
    /// Start of the current slice, in microseconds since the start; older events are ignored.
    after: Arc<AtomicU64>,
    heard: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    collected: tokio::sync::mpsc::UnboundedSender<Vec<u32>>,
    collecting: tokio::sync::mpsc::UnboundedReceiver<Vec<u32>>,
    slice: tokio::sync::watch::Sender<u64>,
    watching: JoinSet<()>,
}

impl Audience {
    fn new() -> Self {
        let (collected, collecting) = tokio::sync::mpsc::unbounded_channel();
        Self {
            begun: Instant::now(),
            after: Arc::default(),
            heard: Arc::default(),
            bytes: Arc::default(),
            collected,
            collecting,
            slice: tokio::sync::watch::Sender::new(0),
            watching: JoinSet::new(),
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Opens a watch. With `greeted`, waits for its first message.
    async fn join<T: Message + Sync + 'static>(
        &mut self,
        channel: Channel,
        path: &'static str,
        request: Request<T>,
        greeted: bool,
    ) {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.expect("a connection");
        let codec = Undecoded(std::marker::PhantomData);
        let answer = grpc.server_streaming(request, PathAndQuery::from_static(path), codec).await;
        let mut stream = answer.expect("a watch").into_inner();
        if greeted {
            stream.message().await.expect("a watch goes on").expect("a first message");
        }
        let (begun, after, heard) = (self.begun, Arc::clone(&self.after), Arc::clone(&self.heard));
        let (bytes, collected, mut slice) =
            (Arc::clone(&self.bytes), self.collected.clone(), self.slice.subscribe());
        self.watching.spawn(async move {
            let (mut latencies, mut newest) = (Vec::new(), [0; SLOTS]);
            loop {
                tokio::select! {
                    message = stream.message() => {
                        let Ok(Some(message)) = message else { return };
                        let now = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                        let from = after.load(Ordering::Relaxed);
                        let before = latencies.len();
                        for (sent, slot) in stamps(&message) {
                            // A row also changes for other reasons, with a stamp that was already counted.
                            if slot < SLOTS && sent >= from && sent > newest[slot] {
                                newest[slot] = sent;
                                latencies.push(u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX));
                            }
                        }
                        heard.fetch_add((latencies.len() - before) as u64, Ordering::Relaxed);
                        bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
                    }
                    _ = slice.changed() => {
                        // The receiver lives as long as the audience.
                        let _ = collected.send(std::mem::take(&mut latencies));
                    }
                }
            }
        });
    }

    /// Publishes at a rate; returns the watchers' figures, and the number of published events.
    async fn slice(
        &mut self,
        server: u32,
        rate: u32,
        length: Duration,
        publish: &(impl Fn(usize, String) -> BoxFuture<'static, Result<(), String>> + Clone + Send + 'static),
    ) -> (Figures, usize) {
        let (begun, cpu, start) = (Instant::now(), cpu_of(server), self.micros());
        self.after.store(start, Ordering::Relaxed);
        let mut publishers = JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let (publish, epoch) = (publish.clone(), self.begun);
            let period = Duration::from_secs(1) * u32::try_from(PUBLISHERS).unwrap_or(1) / rate;
            publishers.spawn(async move {
                let first = begun + period * u32::try_from(publisher).unwrap_or(0) / 16;
                let mut ticks = tokio::time::interval_at(first.into(), period);
                let (mut sent, mut failed) = (0, None);
                while ticks.tick().await.duration_since(begun.into()) < length {
                    let slot = publisher + PUBLISHERS * (sent % (SLOTS / PUBLISHERS));
                    let stamp = format!("~{:012}{slot:02}", epoch.elapsed().as_micros());
                    match publish(slot, stamp).await {
                        Ok(()) => sent += 1,
                        Err(e) => failed = Some(e),
                    }
                }
                (sent, failed)
            });
        }
        let (mut sent, mut all) = (0, Figures::default());
        while let Some(publisher) = publishers.join_next().await {
            let (n, failed) = publisher.expect("a publisher does not panic");
            sent += n;
            if let Some(e) = failed {
                all.fail(e);
            }
        }
        self.all_heard(sent).await;
        all.cpu = cpu_of(server).saturating_sub(cpu);
        all.elapsed = begun.elapsed();
        self.slice.send_modify(|n| *n += 1);
        for _ in 0..self.watching.len() {
            let latencies = tokio::time::timeout(Duration::from_secs(5), self.collecting.recv()).await;
            let Ok(Some(latencies)) = latencies else { break };
            latencies.into_iter().for_each(|micros| all.add_micros(micros.into()));
        }
        self.heard.store(0, Ordering::Relaxed);
        (all, sent)
    }

    /// Waits until every watcher has received everything, or nothing has arrived for a second.
    async fn all_heard(&self, sent: usize) {
        let (wanted, mut last, mut quiet) = ((sent * self.watching.len()) as u64, 0, 0);
        while quiet < 40 {
            let heard = self.heard.load(Ordering::Relaxed);
            if heard >= wanted {
                return;
            }
            quiet = if heard == last { quiet + 1 } else { 0 };
            last = heard;
            settle(Duration::from_millis(25)).await;
        }
    }
}

/// Measures the memory of a thousand idle watches, then the delivery of changes to them.
pub async fn watches(plan: &Plan, world: &World, raw: &RawServer, tasks: &[String], report: &mut Report) {
    let tokens = world.watching_tokens().await;
    let before = rss_of(world.pid());
    let mut audience = Audience::new();
    for connection in 0..CONNECTIONS {
        let channel = connect(&world.mesh.url("task")).await;
        for _ in (connection..WATCHES).step_by(CONNECTIONS) {
            let organization_id = world.owner.organization_id.clone();
            let mut request = Request::new(WatchOrganizationRequest { organization_id, options: None });
            let bearer = format!("Bearer {}", tokens[connection % tokens.len()]);
            request.metadata_mut().insert("authorization", bearer.parse().expect("a token"));
            audience.join(channel.clone(), WATCH_ORGANIZATION, request, true).await;
        }
    }
    settle(Duration::from_secs(3)).await;
    let ours = (rss_of(world.pid()) - before) / count(WATCHES);

    let before = rss_of(raw.pid());
    let mut bare = Audience::new();
    for connection in 0..CONNECTIONS {
        let channel = connect(raw.url()).await;
        for _ in (connection..WATCHES).step_by(CONNECTIONS) {
            bare.join(channel.clone(), WATCH, Request::new(Payload::default()), false).await;
        }
    }
    settle(Duration::from_secs(1)).await;
    let theirs = (rss_of(raw.pid()) - before) / count(WATCHES);
    report.section("4. memory per idle watch (1,000 over 12 connections, growth of RSS)");
    report.say(&format!("{ours:.1} KiB; raw tonic stream {theirs:.1} KiB; {}", ratio(ours, theirs)));

    report.table("3. commit -> 1,000 watchers, from sending the command to each watcher");
    let token = world.access_token().await;
    let clients: Arc<[_]> = (0..PUBLISHERS).map(|_| world.at_task(&token).task()).collect();
    let tasks: Arc<[String]> = tasks.into();
    let rename = move |i: usize, title: String| {
        let mut client = clients[i % clients.len()].clone();
        let task_id = tasks[i % tasks.len()].clone();
        let request = UpdateTaskRequest { request_id: String::new(), task_id, title };
        Box::pin(async move { client.update_task(request).await.map(|_| ()).map_err(|e| e.to_string()) })
            as BoxFuture<'static, _>
    };
    let channel = connect(raw.url()).await;
    let say = move |_: usize, stamp: String| {
        let data = format!("{stamp:.<PUBLISHED_BYTES$}");
        Box::pin(publish(channel.clone(), data)) as BoxFuture<'static, _>
    };
    for rate in [50, 500] {
        let [mut ours, mut theirs] = [const { None::<Figures> }; 2];
        let mut published = [0; 2];
        for _ in 0..PAIRS {
            let (figures, sent) = bare.slice(raw.pid(), rate, plan.slice * 5 / 2, &say).await;
            published[1] += sent;
            keep(&mut theirs, figures);
            let (figures, sent) = audience.slice(world.pid(), rate, plan.slice * 5 / 2, &rename).await;
            published[0] += sent;
            keep(&mut ours, figures);
        }
        let [ours, theirs] = [ours, theirs].map(Option::unwrap_or_default);
        report.delivered(rate, "renames to WatchOrganization", &ours, published[0] * WATCHES);
        report.delivered(rate, "  raw tonic fan-out, 518 B", &theirs, published[1] * WATCHES);
        report.say(&format!(
            "p50 {}, p99 {}, CPU per event {} of raw",
            ratio(ours.percentile(0.5), theirs.percentile(0.5)),
            ratio(ours.percentile(0.99), theirs.percentile(0.99)),
            ratio(ours.cpu_micros(), theirs.cpu_micros()),
        ));
    }
}
