//! A small service whose calls behave as their task id says.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use foundry_core::Error;
use foundry_proto::Frame;
use foundry_proto::repo::v1::{ImportWorkRequest, ImportWorkResponse};
use foundry_proto::task::v1::task_service_client::TaskServiceClient;
use foundry_proto::task::v1::{GetTaskRequest, GetTaskResponse, Task, WatchTaskRequest};
use foundry_server::config::{DrainConfig, Limits, ServerConfig};
use foundry_server::testing::TestServer;
use foundry_server::{Encrypted, PeerService, Phases, RequestContext, Service, Unframed, Upstream, framed};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use http::Request;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::service::Routes;
use tonic::{Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

pub const BOUND: Duration = Duration::from_secs(20);
pub const SERVICE: &str = "foundry.task.v1.TaskService";

/// The body of each frame of an `endless` watch.
pub static SHARED: [u8; 32 << 10] = [b'x'; 32 << 10];

/// `GetTask` and `WatchTask` by task id:
/// The title of a task is the service of the peer that has proven to be one, and otherwise the id of the trace.
/// `hang` waits for [`Probe::release`], `panic` panics, `absent` fails; `endless` streams without end.
#[derive(Clone, Default)]
pub struct Probe(Arc<State>);

#[derive(Default)]
struct State {
    entered: Entered,
    release: CancellationToken,
    drain: CancellationToken,
}

struct Entered(Semaphore);

impl Default for Entered {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

/// An extension that must not cross from one service's request to another's.
#[derive(Clone)]
pub struct Smuggled;

impl Probe {
    pub fn routes(&self) -> Routes {
        Routes::new(self.clone()).add_service(Uploads)
    }

    /// The probe as a service whose watches end when the drain asks them to.
    pub fn service(&self) -> Service {
        let drain = self.0.drain.clone();
        Service::new("task", [SERVICE], self.routes()).phases(Phases::default().drain_watches(
            move |_| async move {
                drain.cancel();
                Vec::new()
            },
        ))
    }

    /// Waits until a `hang` call or a watch has entered.
    pub async fn entered(&self) {
        bounded(self.0.entered.0.acquire()).await.unwrap().forget();
    }

    /// Lets all `hang` calls answer.
    pub fn release(&self) {
        self.0.release.cancel();
    }

    async fn get(self, request: tonic::Request<GetTaskRequest>) -> Result<Response<GetTaskResponse>, Status> {
        let context = RequestContext::current().expect("a handler runs in a request");
        let smuggled = request.extensions().get::<Smuggled>().is_some();
        let encrypted = request.extensions().get::<Encrypted>().is_some();
        let peer = request.extensions().get::<PeerService>().map(|PeerService(name)| name.to_string());
        let task_id = request.into_inner().task_id;
        match task_id.as_str() {
            "panic" => panic!("planted"),
            "absent" => return Err(Error::not_found("task", "absent").into()),
            "hang" => {
                self.0.entered.0.add_permits(1);
                self.0.release.cancelled().await;
            }
            _ => {}
        }
        let task = Task {
            task_id,
            title: peer.filter(|_| encrypted).unwrap_or_else(|| context.trace.trace_id()),
            branch: context.request_id.to_string(),
            agent: if smuggled { "smuggled" } else { "" }.to_owned(),
            ..Task::default()
        };
        Ok(Response::new(GetTaskResponse { task: Some(task), sessions: Vec::new() }))
    }

    async fn watch(
        self,
        request: tonic::Request<WatchTaskRequest>,
    ) -> Result<Response<Unframed<Frame>>, Status> {
        self.0.entered.0.add_permits(1);
        let hello = stream::iter([Ok(Frame { seq: 1, ..Frame::default() })]);
        let rest = if request.into_inner().task_id == "endless" {
            let body = Bytes::from_static(&SHARED);
            stream::repeat_with(move || Ok(Frame { seq: 2, body: body.clone(), ..Frame::default() })).boxed()
        } else {
            let drain = self.0.drain.clone();
            stream::once(async move {
                drain.cancelled().await;
                Ok(Frame { seq: 2, ..Frame::default() })
            })
            .boxed()
        };
        Ok(framed(hello.chain(rest).boxed()))
    }
}

impl NamedService for Probe {
    const NAME: &'static str = SERVICE;
}

impl tower::Service<Request<Body>> for Probe {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let probe = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/foundry.task.v1.TaskService/GetTask" => {
                    let get = service_fn(move |r| probe.clone().get(r));
                    Grpc::new(ProstCodec::default()).unary(get, request).await
                }
                "/foundry.task.v1.TaskService/WatchTask" => {
                    let watch = service_fn(move |r| probe.clone().watch(r));
                    Grpc::new(ProstCodec::default()).server_streaming(watch, request).await
                }
                _ => Status::unimplemented("not of the probe").into_http(),
            })
        })
    }
}

pub fn client(upstream: Upstream) -> TaskServiceClient<Upstream> {
    TaskServiceClient::new(upstream)
}

pub fn get(task_id: &str) -> GetTaskRequest {
    GetTaskRequest { task_id: task_id.to_owned() }
}

pub fn watch(task_id: &str) -> WatchTaskRequest {
    WatchTaskRequest { task_id: task_id.to_owned(), options: None }
}

pub fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status.get_error_details().error_info().map(|i| i.reason.clone()).unwrap_or_default()
}

/// How often a limit refused something, as the metrics count it.
pub fn refused(server: &TestServer, limit: &str) -> u64 {
    let text = server.metrics.prometheus_text();
    let begin = format!("foundry_refusals_total{{limit=\"{limit}\",service=\"task\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&begin)).map_or(0, |count| count.parse().unwrap())
}

/// Fails the test instead of hanging it.
pub async fn bounded<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(BOUND, future).await.expect("done in time")
}

pub fn limits(change: impl FnOnce(&mut Limits)) -> ServerConfig {
    let mut config = ServerConfig::default();
    change(&mut config.limits);
    config
}

/// The whole response to a GET.
pub async fn http_get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The drain without its serving delay.
pub fn prompt_drain() -> DrainConfig {
    DrainConfig { serving_delay: Duration::ZERO, ..DrainConfig::default() }
}

/// Counts the messages of an upload.
#[derive(Clone)]
struct Uploads;

impl NamedService for Uploads {
    const NAME: &'static str = "foundry.repo.v1.RepoService";
}

impl tower::Service<Request<Body>> for Uploads {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let import = service_fn(|request: tonic::Request<Streaming<ImportWorkRequest>>| async move {
            let mut parts = request.into_inner();
            let mut rev = 0;
            while parts.message().await?.is_some() {
                rev += 1;
            }
            Ok::<_, Status>(Response::new(ImportWorkResponse { work: None, rev }))
        });
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).client_streaming(import, request).await) })
    }
}
