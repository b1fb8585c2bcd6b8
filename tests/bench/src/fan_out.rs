//! The path from a committed change to its watchers, and the memory of an idle watcher.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foundry_proto::task::v1::{UpdateTaskRequest, WatchOrganizationRequest};
use futures::future::LocalBoxFuture;
use http::uri::PathAndQuery;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use crate::Bed;
use crate::audience::{Audience, Ears, PUBLISHERS, Publish, Undecoded};
use crate::commands::connect;
use crate::figures::{Figures, count, rss_of};
use crate::load::{Floor, patience};
use crate::raw::{Payload, RawServer, WATCH, publish};
use crate::report::Report;
use crate::result::Role;
use crate::world::{World, settle};

/// Watchers and events per second.
const LOADS: [(usize, u32); 4] = [(1, 50), (100, 50), (1_000, 50), (1_000, 500)];
/// Watches whose memory is measured.
const WATCHES: usize = 1_000;
/// Connections that the watches share at most; the watching users take turns.
pub const CONNECTIONS: usize = 12;
const WATCH_ORGANIZATION: &str = "/foundry.task.v1.TaskService/WatchOrganization";
/// Size of a published message in bytes, about that of one change of the summary.
pub const PUBLISHED_BYTES: usize = 518;

/// A stamp, filled up to [`PUBLISHED_BYTES`].
pub fn padded(stamp: &str) -> String {
    format!("{stamp:.<PUBLISHED_BYTES$}")
}

/// The numbers of the watchers that share each connection.
pub fn per_connection(watchers: usize) -> impl Iterator<Item = usize> {
    let connections = watchers.min(CONNECTIONS);
    (0..connections).map(move |connection| (connection..watchers).step_by(connections).count())
}

/// Opens a server stream of undecoded messages. With `greeted`, waits for its first message.
async fn watch<T: Message + 'static>(
    channel: Channel,
    path: &'static str,
    request: Request<T>,
    greeted: bool,
) -> Streaming<Bytes> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("a connection");
    let path = PathAndQuery::from_static(path);
    let answer = grpc.server_streaming(request, path, Undecoded::<T>::default()).await;
    let mut stream = answer.expect("a watch").into_inner();
    if greeted {
        stream.message().await.expect("a watch goes on").expect("a first message");
    }
    stream
}

async fn watch_mesh(world: &World, watchers: usize) -> Vec<Ears> {
    let tokens = world.watching_tokens().await;
    let mut ears = Vec::new();
    for (connection, watchers) in per_connection(watchers).enumerate() {
        let channel = connect(&world.mesh.url("task")).await;
        let bearer = format!("Bearer {}", tokens[connection % tokens.len()]);
        for _ in 0..watchers {
            let organization_id = world.owner.organization_id.clone();
            let mut request = Request::new(WatchOrganizationRequest { organization_id, options: None });
            request.metadata_mut().insert("authorization", bearer.parse().expect("a token"));
            ears.push(Ears::of(watch(channel.clone(), WATCH_ORGANIZATION, request, true).await));
        }
    }
    ears
}

async fn watch_raw(raw: &RawServer, watchers: usize) -> Vec<Ears> {
    let mut ears = Vec::new();
    for watchers in per_connection(watchers) {
        let channel = connect(raw.url()).await;
        for _ in 0..watchers {
            let request = Request::new(Payload::default());
            ears.push(Ears::of(watch(channel.clone(), WATCH, request, false).await));
        }
    }
    ears
}

/// Renames tasks, with a connection for each publisher.
async fn renaming(world: &World) -> Publish {
    let token = world.access_token().await;
    let mut clients = Vec::new();
    for _ in 0..PUBLISHERS {
        clients.push(world.at_task(&token).await.task());
    }
    let tasks = world.tasks.clone();
    Arc::new(move |slot, title| {
        let mut client = clients[slot % clients.len()].clone();
        let task_id = tasks[slot % tasks.len()].clone();
        let request = UpdateTaskRequest { request_id: String::new(), task_id, title };
        Box::pin(async move { client.update_task(request).await.map(|_| ()).map_err(|e| e.to_string()) })
    })
}

/// Something that delivers what is published to many watchers.
struct Source<'a> {
    role: Role,
    name: &'static str,
    servers: Vec<u32>,
    publish: Publish,
    open: Box<dyn Fn(usize) -> LocalBoxFuture<'a, Vec<Ears>> + 'a>,
}

async fn sources(bed: &Bed) -> Vec<Source<'_>> {
    let mut sources = Vec::new();
    for world in &bed.worlds {
        sources.push(Source {
            role: world.role,
            name: "renames to WatchOrganization",
            servers: vec![world.pid()],
            publish: renaming(world).await,
            open: Box::new(move |watchers| Box::pin(watch_mesh(world, watchers))),
        });
    }
    let channel = connect(bed.raw.url()).await;
    sources.push(Source {
        role: Role::Floor,
        name: "raw tonic fan-out, 518 B",
        servers: vec![bed.raw.pid()],
        publish: Arc::new(move |_, stamp| Box::pin(publish(channel.clone(), padded(&stamp)))),
        open: Box::new(move |watchers| Box::pin(watch_raw(&bed.raw, watchers))),
    });
    if let Some(etcd) = &bed.peers.etcd {
        sources.push(Source {
            role: Role::Peer,
            name: "etcd put to watch",
            servers: vec![etcd.pid()],
            publish: etcd.publisher().await,
            open: Box::new(move |watchers| Box::pin(etcd.watch(watchers))),
        });
    }
    if let Some(nats) = &bed.peers.nats {
        sources.push(Source {
            role: Role::Peer,
            name: "NATS core publish (not durable)",
            servers: vec![nats.pid()],
            publish: nats.publisher().await,
            open: Box::new(move |watchers| Box::pin(nats.watch(watchers))),
        });
    }
    sources
}

/// Measures the delivery of changes to 1, 100 and 1,000 watchers.
pub async fn deliveries(bed: &Bed, report: &mut Report) {
    report.table("Change to watchers, from sending the command to each watcher; floor = raw tonic");
    let sources = sources(bed).await;
    for (watchers, rate) in LOADS {
        let mut audiences = Vec::new();
        for source in &sources {
            audiences.push(Audience::new((source.open)(watchers).await));
        }
        settle(Duration::from_secs(1)).await;
        let mut sums: Vec<(Figures, usize)> = sources.iter().map(|_| Default::default()).collect();
        for pair in 0..bed.plan.pairs {
            for turn in 0..sources.len() {
                let at = if pair % 2 == 0 { turn } else { sources.len() - 1 - turn };
                let source = &sources[at];
                let length = bed.plan.slice * 5 / 2;
                let servers = (source.servers.as_slice(), patience(source.role));
                let (figures, sent) = audiences[at].slice(servers, rate, length, &source.publish).await;
                sums[at].0.merge_earlier(figures);
                sums[at].1 += sent * watchers;
            }
        }
        let floors = sources.iter().zip(&sums).filter(|(source, _)| source.role == Role::Floor);
        let floor = Floor::of(floors.map(|(_, (figures, _))| figures));
        let load = format!("{watchers} at {rate}/s");
        for (source, (figures, wanted)) in sources.iter().zip(&sums) {
            report.deliveries("fan_out", source.role, &load, source.name, (figures, *wanted), &floor);
        }
    }
}

/// Measures how much the resident memory grows with a thousand idle watches.
pub async fn memory(worlds: &[World], raw: &RawServer, report: &mut Report) {
    report.section("Memory per idle watch: 1,000 watches over 12 connections, growth of the resident memory");
    for world in worlds {
        let load = format!("{} tasks shown", world.tasks.len());
        let grown = growth(world.pid(), watch_mesh(world, WATCHES)).await;
        report.values("idle_watch", world.role, &load, "WatchOrganization", &[("rss_kib", grown)]);
    }
    let grown = growth(raw.pid(), watch_raw(raw, WATCHES)).await;
    report.values("idle_watch", Role::Floor, "-", "raw tonic stream", &[("rss_kib", grown)]);
}

async fn growth(pid: u32, open: impl Future<Output = Vec<Ears>>) -> f64 {
    let before = rss_of(pid);
    // The audience reads the snapshots.
    let audience = Audience::new(open.await);
    settle(Duration::from_secs(3)).await;
    let grown = (rss_of(pid) - before) / count(WATCHES);
    drop(audience);
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_share_at_most_twelve_connections() {
        assert_eq!(per_connection(1).collect::<Vec<_>>(), [1]);
        let of_hundred: Vec<_> = per_connection(100).collect();
        assert_eq!((of_hundred.len(), of_hundred.iter().sum::<usize>()), (CONNECTIONS, 100));
    }

    #[test]
    fn a_published_message_has_its_size() {
        assert_eq!(padded("~00000000000100").len(), PUBLISHED_BYTES);
    }
}
