//! The baseline: a bare tonic server in its own process that echoes and fans out, and its client.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

const ECHO: &str = "/bench.Raw/Echo";
const PUBLISH: &str = "/bench.Raw/Publish";
/// Path of the server stream with everything that is published.
pub const WATCH: &str = "/bench.Raw/Watch";
/// Messages that a slow watcher may lag behind.
const BEHIND: usize = 8_192;

/// The message of both rpcs, in both directions.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    /// Arbitrary content, such as a time stamp.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
}

#[derive(Clone)]
struct Raw(broadcast::Sender<Payload>);

impl NamedService for Raw {
    const NAME: &'static str = "bench.Raw";
}

impl tower::Service<http::Request<Body>> for Raw {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let published = self.0.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Payload, Payload>::default());
            Ok(match request.uri().path() {
                ECHO => grpc.unary(tower::service_fn(echo), request).await,
                PUBLISH => {
                    let publish = move |r: Request<Payload>| {
                        // An error means that there are no watchers.
                        let _ = published.send(r.into_inner());
                        async { Ok(Response::new(Payload::default())) }
                    };
                    grpc.unary(tower::service_fn(publish), request).await
                }
                _ => {
                    let watch = move |_: Request<Payload>| {
                        let stream = BroadcastStream::new(published.subscribe());
                        let stream = stream.map(|m| m.map_err(|e| Status::data_loss(e.to_string())));
                        async { Ok(Response::new(stream)) }
                    };
                    grpc.server_streaming(tower::service_fn(watch), request).await
                }
            })
        })
    }
}

async fn echo(request: Request<Payload>) -> Result<Response<Payload>, Status> {
    Ok(Response::new(request.into_inner()))
}

/// Serves until the process is killed. Prints its port first.
pub async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let incoming = TcpIncoming::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.with_nodelay(Some(true));
    println!("{}", incoming.local_addr()?.port());
    std::io::stdout().flush()?;
    let raw = Raw(broadcast::channel(BEHIND).0);
    Ok(Server::builder().add_service(raw).serve_with_incoming(incoming).await?)
}

/// The server as a child process, killed on drop.
pub struct RawServer {
    child: Child,
    url: String,
}

impl RawServer {
    /// Starts the server and waits until it prints its port.
    pub fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("own path"));
        let mut child = command.arg("raw-server").stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut port = String::new();
        BufReader::new(child.stdout.take().expect("output")).read_line(&mut port).expect("its port");
        Self { child, url: format!("http://127.0.0.1:{}", port.trim()) }
    }

    /// Process id of the server.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// URL of the server.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        // An error means that it has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a payload of this many bytes and waits for the echo.
pub async fn call_echo(channel: Channel, bytes: usize) -> Result<(), String> {
    call(channel, ECHO, Bytes::from(vec![b'x'; bytes])).await
}

/// Publishes data to all watchers.
pub async fn publish(channel: Channel, data: String) -> Result<(), String> {
    call(channel, PUBLISH, Bytes::from(data)).await
}

async fn call(channel: Channel, path: &'static str, data: Bytes) -> Result<(), String> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|e| e.to_string())?;
    let codec = ProstCodec::<Payload, Payload>::default();
    let request = Request::new(Payload { data });
    grpc.unary(request, PathAndQuery::from_static(path), codec).await.map_err(|e| e.to_string())?;
    Ok(())
}
