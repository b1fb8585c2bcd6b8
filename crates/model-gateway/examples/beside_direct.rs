//! Figures of the gateway beside a direct call, in one run: `cargo run --release --example beside_direct`.
//!
//! Time to the first token, the speed of a long stream, and memory while 200 streams are open. Provider, gateway and
//! clients share one process, and so its processors; the calls are interleaved. Models write one event at a time: packed
//! ones show where the gateway's own cost begins, beside a relay that only passes bytes on.

// A program for developers, who read its output.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use std::cmp::Ordering;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use foundry_core::{Env, Tasks};
use foundry_http_client::{NetworkSettings, http_client};
use foundry_model_gateway::{
    Access, Credential, Gateway, Kind, Ledger, Listener, McpAccess, McpRefused, ModelCondition, Owner,
    Refused, SandboxProof, Secret, Settings, Usage,
};
use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

const EVENT: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"some words of a model\"}}\n\n";
const STOP: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const STREAM: usize = 200 * 1000 * 1000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Open(reqwest::Url);

#[async_trait]
impl Ledger for Open {
    async fn access(&self, _: &str, _: Option<&SandboxProof>) -> Result<Access, Refused> {
        Ok(Access {
            kind: Kind::Anthropic,
            base_url: self.0.clone(),
            headers: Vec::new(),
            credential: Credential::Key(Secret::new("key")),
            models: Vec::new(),
            owner: Owner::default(),
            held_until: None,
            limits: Vec::new(),
            prices: Vec::new(),
        })
    }

    async fn mcp(&self, _: &str, _: Option<&SandboxProof>, _: &str) -> Result<McpAccess, McpRefused> {
        Err(McpRefused::Unknown)
    }

    async fn mcp_client(&self, _: &McpAccess) -> Result<reqwest::Client, McpRefused> {
        Err(McpRefused::Unknown)
    }

    async fn used(&self, _: &Access, _: Usage) {}

    async fn condition(&self, _: &Access, _: ModelCondition) {}
}

/// Streams as many events as the header `x-bytes` asks for, `x-pack` of them in a piece, with a pause before each piece
/// if `x-slow` is set.
async fn model(
    request: Request<Incoming>,
) -> Result<Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>, Failure> {
    let number = |name: &str| -> Result<usize, Failure> {
        request.headers().get(name).map_or(Ok(0), |value| Ok(value.to_str()?.parse()?))
    };
    let (bytes, pack, slow) = (number("x-bytes")?, number("x-pack")?.max(1), number("x-slow")? > 0);
    request.into_body().collect().await.ok();
    let piece = Bytes::from(EVENT.repeat(pack));
    let pieces = bytes.div_ceil(piece.len()).max(1);
    let events = futures::stream::iter(0..pieces).then(move |_| {
        let piece = piece.clone();
        async move {
            if slow {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(Frame::data(piece))
        }
    });
    let body = StreamBody::new(
        events.chain(futures::stream::iter([Ok(Frame::data(Bytes::from_static(STOP.as_bytes())))])),
    );
    Ok(Response::builder().header("content-type", "text/event-stream").body(body.boxed_unsync())?)
}

async fn provider(tasks: &Tasks) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let inner = tasks.clone();
    tasks.spawn("provider", async move {
        // A failed accept ends the provider, and with it the calls of the measurement.
        while let Ok((io, _)) = listener.accept().await {
            if io.set_nodelay(true).is_err() {
                continue;
            }
            inner.spawn("connection", async move {
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(io), service_fn(model));
                let _ = served.await;
            });
        }
    });
    Ok(address)
}

/// Passes bytes on between its callers and `to` without parsing any: as fast as any proxy on this machine can be.
async fn relay(tasks: &Tasks, to: SocketAddr) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let inner = tasks.clone();
    tasks.spawn("relay", async move {
        while let Ok((mut io, _)) = listener.accept().await {
            inner.spawn("relayed connection", async move {
                let Ok(mut upstream) = TcpStream::connect(to).await else { return };
                if io.set_nodelay(true).and(upstream.set_nodelay(true)).is_ok() {
                    // Ends when one side leaves, as the measurement's clients do.
                    let _ = copy_bidirectional(&mut io, &mut upstream).await;
                }
            });
        }
    });
    Ok(address)
}

struct Caller {
    client: reqwest::Client,
    url: String,
    body: Bytes,
}

impl Caller {
    async fn call(&self, bytes: usize, pack: usize, slow: bool) -> reqwest::Result<reqwest::Response> {
        self.client
            .post(&self.url)
            .header("x-api-key", "token")
            .header("x-bytes", bytes)
            .header("x-pack", pack)
            .header("x-slow", usize::from(slow))
            .body(self.body.clone())
            .send()
            .await
    }

    /// Time to the first token, in microseconds.
    async fn first_token(&self) -> reqwest::Result<u128> {
        let began = Instant::now();
        let mut answer = self.call(1, 1, false).await?;
        answer.chunk().await?;
        let took = began.elapsed().as_micros();
        while answer.chunk().await?.is_some() {}
        Ok(took)
    }

    /// Speed of a stream, in megabytes a second.
    async fn speed(&self, pack: usize) -> reqwest::Result<f64> {
        let began = Instant::now();
        let mut answer = self.call(STREAM, pack, false).await?;
        let mut seen = 0;
        while let Some(chunk) = answer.chunk().await? {
            seen += chunk.len();
        }
        assert!(seen >= STREAM);
        #[allow(clippy::cast_precision_loss)]
        let mega = seen as f64 / 1e6;
        Ok(mega / began.elapsed().as_secs_f64())
    }
}

/// Memory of this process, in kB.
fn memory() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The median of at least one value.
fn median<T: Copy>(mut all: Vec<T>, order: impl FnMut(&T, &T) -> Ordering) -> T {
    all.sort_by(order);
    all[all.len() / 2]
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (tasks, _) = Tasks::new();
    let direct = provider(&tasks).await?;
    let client = http_client(&NetworkSettings::default())?;
    let ledger = Arc::new(Open(format!("http://{direct}").parse()?));
    let gateway = Gateway::new(ledger, client.clone(), Settings::default(), Env::system(), tasks.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let through = listener.local_addr()?;
    gateway.serve(Listener::Tcp(listener));

    for kib in [4, 200, 1024] {
        let body = Bytes::from(format!(
            r#"{{"model":"m","stream":true,"messages":["{}"]}}"#,
            "x".repeat(kib * 1024)
        ));
        let caller = |address| Caller {
            client: client.clone(),
            url: format!("http://{address}/v1/messages"),
            body: body.clone(),
        };
        let (a, b) = (caller(direct), caller(through));
        let (mut plain, mut gated) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            plain.push(a.first_token().await?);
            gated.push(b.first_token().await?);
        }
        let (plain, gated) = (median(plain, u128::cmp), median(gated, u128::cmp));
        println!(
            "first token p50, request of {kib} KiB: direct {plain} µs, gateway {gated} µs, {} µs more",
            gated.saturating_sub(plain)
        );
    }

    let body = Bytes::from_static(br#"{"model":"m","stream":true}"#);
    let caller = |address| Caller {
        client: client.clone(),
        url: format!("http://{address}/v1/messages"),
        body: body.clone(),
    };
    let (a, b) = (caller(direct), caller(through));
    let c = caller(relay(&tasks, direct).await?);
    for pack in [1, 10, 100] {
        let (mut plain, mut gated, mut relayed) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..5 {
            plain.push(a.speed(pack).await?);
            gated.push(b.speed(pack).await?);
            relayed.push(c.speed(pack).await?);
        }
        let [plain, gated, relayed] = [plain, gated, relayed].map(|all| median(all, f64::total_cmp));
        println!(
            "200 MB, {pack} events a write: direct {plain:.0} MB/s, gateway {gated:.0} MB/s, ratio {:.2}; \
             a plain relay of bytes {relayed:.0} MB/s, ratio {:.2}",
            gated / plain,
            relayed / plain
        );
    }

    let before = memory()?;
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(b.call(10_000_000, 10, true).await?);
    }
    let mut seen = Vec::new();
    for _ in 0..5 {
        let until = Instant::now() + Duration::from_secs(2);
        let reading = streams.iter_mut().map(|s| async move {
            while Instant::now() < until && s.chunk().await?.is_some() {}
            Ok::<_, reqwest::Error>(())
        });
        futures::future::try_join_all(reading).await?;
        seen.push(memory()?);
    }
    println!(
        "memory with 200 streams (provider and clients included): {before} kB before, then {seen:?} kB every 2 s"
    );
    Ok(())
}
