//! The forwarder of model calls: listens on the loopback, passes every call on to the gateway's socket and adds the
//! proof of its sandbox.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Tasks};
use foundry_sandbox::beneath::beside;
use foundry_sandbox::key::nonce;
use foundry_sandbox::wire::{Forward, SANDBOX_HEADER, Start};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::accept::accept;
use crate::reply::{self, Body};

/// How long a call waits for the gateway.
const HOLD: Duration = Duration::from_secs(600);
/// First and longest pause between two attempts to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// Value of `retry-after`, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
/// Header fields of one connection.
const HOP_BY_HOP: [HeaderName; 3] =
    [header::CONNECTION, HeaderName::from_static("keep-alive"), HeaderName::from_static("proxy-connection")];

/// The forwarder, listening.
pub(crate) struct Forwarder {
    listener: TcpListener,
    url: String,
    gateway: Arc<Gateway>,
}

struct Gateway {
    socket: PathBuf,
    start: Start,
    env: Env,
    tasks: Tasks,
}

impl Forwarder {
    /// Binds the listener; none without a gateway.
    pub async fn bind(start: &Start, env: &Env, tasks: &Tasks) -> io::Result<Option<Self>> {
        let Some(Forward::Socket(socket)) = start.forward.clone() else { return Ok(None) };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let gateway = Gateway { socket, start: start.clone(), env: env.clone(), tasks: tasks.clone() };
        Ok(Some(Self { listener, url, gateway: Arc::new(gateway) }))
    }

    /// The base URL for agents.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Accepts for ever.
    pub async fn serve(self) {
        let tasks = self.gateway.tasks.clone();
        accept(self.listener, tasks, "model connection", |stream| {
            let gateway = Arc::clone(&self.gateway);
            async move { gateway.connection(stream).await }
        })
        .await;
    }
}

impl Gateway {
    async fn connection(&self, stream: TcpStream) {
        let service = service_fn(|request| async move { Ok::<_, Infallible>(self.pass_on(request).await) });
        // Protocol errors concern the client alone.
        let _ = server::Builder::new()
            .preserve_header_case(true)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Response<Body> {
        let request = match self.prepared(request) {
            Ok(request) => request,
            Err(e) => return unavailable(StatusCode::BAD_REQUEST, &e.to_string()),
        };
        let Some(stream) = self.reach().await else {
            return unavailable(StatusCode::SERVICE_UNAVAILABLE, "the model gateway cannot be reached");
        };
        self.call(stream, request).await.unwrap_or_else(|e| {
            unavailable(StatusCode::SERVICE_UNAVAILABLE, &format!("the model gateway did not answer: {e}"))
        })
    }

    /// The request to the gateway.
    fn prepared(&self, mut request: Request<Incoming>) -> Result<Request<Incoming>, http::Error> {
        let target = request.uri().path_and_query().map_or("/", |p| p.as_str());
        *request.uri_mut() = target.parse::<Uri>()?;
        let number = nonce(&self.env);
        let (sandbox, instance) = (&self.start.sandbox, &self.start.instance);
        let proof = self.start.key.model_proof(sandbox.as_str(), instance, &number);
        let value = HeaderValue::from_str(&format!("{sandbox}.{instance}.{number}.{proof}"))?;
        without_hops(request.headers_mut());
        // Replaces a header that a program inside may have forged.
        request.headers_mut().insert(SANDBOX_HEADER, value);
        Ok(request)
    }

    /// Connects; retries while the gateway is down.
    async fn reach(&self) -> Option<UnixStream> {
        let until = Instant::now() + HOLD;
        let mut pause = PAUSE.0;
        loop {
            if let Ok(stream) = beside(&self.socket, connect).and_then(UnixStream::from_std) {
                return Some(stream);
            }
            if Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn call(&self, stream: UnixStream, request: Request<Incoming>) -> hyper::Result<Response<Body>> {
        let (mut sender, connection) =
            client::Builder::new().preserve_header_case(true).handshake(TokioIo::new(stream)).await?;
        let (caller, gone) = oneshot::channel::<Infallible>();
        self.tasks.spawn("model call", async move {
            tokio::select! {
                // Errors of the connection surface at the reader of the answer.
                _ = connection => {}
                // Nothing is ever sent: this completes when the answer is dropped.
                _ = gone => {}
            }
        });
        let (mut head, body) = sender.send_request(request).await?.into_parts();
        without_hops(&mut head.headers);
        // Dropping the answer closes the connection to the gateway.
        let kept = (sender, caller);
        let body = body.map_err(move |error| {
            let _ = &kept;
            io::Error::other(error)
        });
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }
}

/// Fails at once when the gateway's connection queue is full: a blocking connect would block the whole runtime, which
/// has one thread.
pub(crate) fn connect(socket: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let address = SocketAddrUnix::new(socket)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let stream = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&stream, &address)?;
    Ok(stream.into())
}

fn without_hops(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn unavailable(status: StatusCode, message: &str) -> Response<Body> {
    let mut response =
        reply::json(status, &json!({ "error": { "type": "unavailable", "message": message } }));
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_at_once_when_the_queue_of_the_gateway_is_full() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway");
        let gateway = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&gateway, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&gateway, 1).unwrap();
        let connected: Vec<_> = (0..4).map(|_| connect(&path)).collect();
        assert!(connected[0].is_ok());
        assert_eq!(connected[3].as_ref().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
