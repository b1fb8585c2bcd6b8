//! etcd: durable puts, and watches of one key prefix. The few fields of its interface that are needed are written out here
//! (`etcdserverpb.KV/Put`, `etcdserverpb.Watch/Watch` of version 3).

use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use super::{Process, directory, free_ports, in_path, version};
use crate::audience::{Ears, PUBLISHERS, Publish, Undecoded};
use crate::commands::connect;
use crate::fan_out::{padded, per_connection};
use crate::load::{Operation, operation};

const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// The key that each client or publisher puts begins with this.
const PREFIX: &str = "task/";
/// The first key after all keys with the prefix.
const AFTER_PREFIX: &str = "task0";

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    create_request: Option<WatchCreateRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WatchCreateRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    range_end: Bytes,
}

/// One member with default settings, which syncs every commit.
pub struct Etcd {
    process: Process,
    url: String,
    _data: tempfile::TempDir,
}

impl Etcd {
    /// Starts it; returns it with its version.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start() -> Result<(Self, String), String> {
        let program = in_path("etcd")?;
        let (data, [clients, peers]) = (directory()?, free_ports()?);
        let (url, peers) = (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
        let mut command = Command::new(&program);
        command.arg("--data-dir").arg(data.path()).args(["--log-level", "error"]);
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        let mut process = Process::start(&mut command)?;
        process.listens(clients).await?;
        let etcd = Self { process, url, _data: data };
        put(connect(&etcd.url).await, 0, String::new()).await?;
        Ok((etcd, version(&program)?))
    }

    /// Process id of the member.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Clients that put a value of the size of a task, each its own key.
    pub fn puts(&self) -> impl AsyncFn(usize) -> Vec<Operation> {
        async move |clients: usize| {
            let mut operations = Vec::new();
            for client in 0..clients {
                let channel = connect(&self.url).await;
                operations.push(operation(move |_| put(channel.clone(), client, padded(""))));
            }
            operations
        }
    }

    /// Puts a stamp as the value of a slot's key, with a connection for each publisher.
    pub async fn publisher(&self) -> Publish {
        let mut channels = Vec::new();
        for _ in 0..PUBLISHERS {
            channels.push(connect(&self.url).await);
        }
        Arc::new(move |slot, stamp| {
            let channel = channels[slot % channels.len()].clone();
            Box::pin(put(channel, slot, padded(&stamp)))
        })
    }

    /// Watchers of all keys, each with a stream of its own.
    pub async fn watch(&self, watchers: usize) -> Vec<Ears> {
        let mut ears = Vec::new();
        for watchers in per_connection(watchers) {
            let channel = connect(&self.url).await;
            for _ in 0..watchers {
                ears.push(Ears::of(watch(channel.clone()).await));
            }
        }
        ears
    }
}

async fn put(channel: Channel, key: usize, value: String) -> Result<(), String> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|e| e.to_string())?;
    let request = PutRequest { key: Bytes::from(format!("{PREFIX}{key:04}")), value: Bytes::from(value) };
    let codec = Undecoded::<PutRequest>::default();
    let answer = grpc.unary(Request::new(request), PathAndQuery::from_static(PUT), codec).await;
    answer.map(|_| ()).map_err(|e| e.to_string())
}

/// Opens a watch and waits for its first message, which confirms it.
async fn watch(channel: Channel) -> Streaming<Bytes> {
    let create_request = Some(WatchCreateRequest {
        key: Bytes::from_static(PREFIX.as_bytes()),
        range_end: Bytes::from_static(AFTER_PREFIX.as_bytes()),
    });
    // The watch ends with its stream of requests, so that one stays open.
    let requests = stream::iter([WatchRequest { create_request }]).chain(stream::pending());
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("a connection");
    let codec = Undecoded::<WatchRequest>::default();
    let answer = grpc.streaming(Request::new(requests), PathAndQuery::from_static(WATCH), codec).await;
    let mut stream = answer.expect("a watch").into_inner();
    stream.message().await.expect("a watch goes on").expect("a first message");
    stream
}
