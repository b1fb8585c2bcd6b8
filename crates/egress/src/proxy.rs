//! The requests of one connection: CONNECT makes a tunnel, a whole http:// address is fetched.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use foundry_core::Tasks;
use foundry_sandbox::{Claim, Network};
use http::header::{self, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1 as client;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::Inner;
use crate::answer::{Body, Problem};
use crate::dial::{self, Stream};
use crate::judge::{Route, route};
use crate::relay::{Counted, Seen, relay};
use crate::serve::Slot;
use crate::target::Target;
use crate::upstream::Via;

/// Header fields of one connection, and those meant for a proxy alone.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// One connection of a sandbox.
pub(crate) struct Session {
    egress: Arc<Inner>,
    claim: Claim,
    network: Network,
    /// The connections of this listener: tunnels are drained with them.
    tasks: Tasks,
    slot: Arc<Slot>,
}

impl Session {
    pub fn new(egress: Arc<Inner>, claim: Claim, network: Network, tasks: Tasks, slot: Arc<Slot>) -> Self {
        Self { egress, claim, network, tasks, slot }
    }

    /// Answers one request; never fails.
    pub async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let method = request.method().clone();
        let done =
            if method == Method::CONNECT { self.tunnel(request).await } else { self.fetch(request).await };
        Ok(done.unwrap_or_else(|problem| {
            let sandbox = &self.claim.sandbox;
            tracing::info!(sandbox, reason = problem.reason, "{}", problem.short);
            problem.response()
        }))
    }

    async fn tunnel(&self, request: Request<Incoming>) -> Result<Response<Body>, Problem> {
        let target = Target::of(request.uri(), None)
            .ok_or_else(|| Problem::malformed("CONNECT takes one host and port"))?;
        let far = match self.route(&target).await? {
            Route::Direct(addresses) => self.direct(&target, addresses).await?,
            Route::Via(via) => {
                let egress = &self.egress;
                let limit = egress.settings.connect;
                dial::tunnel(&egress.outside, &target, &via, limit, &self.tasks).await?
            }
        };
        let (egress, slot, stop) =
            (Arc::clone(&self.egress), Arc::clone(&self.slot), self.tasks.cancellation().clone());
        self.tasks.spawn("network tunnel", async move {
            let settings = &egress.settings;
            let copied = async {
                // Fails when the program goes away before it has the answer.
                let Ok(near) = hyper::upgrade::on(request).await else { return };
                relay(TokioIo::new(near), far, settings, &egress.env).await;
            };
            tokio::select! {
                () = copied => {}
                () = async { stop.cancelled().await; egress.env.clock.sleep(settings.drain).await } => {}
            }
            drop(slot);
        });
        Ok(Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync()))
    }

    async fn fetch(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Problem> {
        if request.uri().scheme() != Some(&Scheme::HTTP) {
            return Err(Problem::malformed("this request names no http:// address"));
        }
        let target = Target::of(request.uri(), Some(80))
            .ok_or_else(|| Problem::malformed("this request's address names no host"))?;
        let route = self.route(&target).await?;
        without_hops(request.headers_mut());
        // What the server goes by is what was judged.
        let host = request.uri().authority().map(|a| a.as_str().to_owned()).unwrap_or_default();
        let host = HeaderValue::from_str(&host).map_err(|_| Problem::malformed("the host is unreadable"))?;
        request.headers_mut().insert(header::HOST, host);
        let far = match route {
            Route::Direct(addresses) => {
                *request.uri_mut() = path_of(request.uri());
                self.direct(&target, addresses).await?
            }
            Route::Via(via) => self.towards(&via, &target, request.headers_mut()).await?,
        };
        self.call(far, request).await.map_err(|e| Problem::unconnected(&target, &words(&e)))
    }

    async fn route(&self, target: &Target) -> Result<Route, Problem> {
        let egress = &self.egress;
        let judged = route(&self.network, target, egress.outside.as_ref(), egress.upstream.as_ref());
        match tokio::time::timeout(egress.settings.connect, judged).await {
            Ok(judged) => judged,
            Err(_) => Err(Problem::unresolved(target, "the resolver does not answer")),
        }
    }

    async fn direct(&self, target: &Target, addresses: Vec<std::net::SocketAddr>) -> Result<Stream, Problem> {
        dial::direct(&self.egress.outside, target, addresses, self.egress.settings.connect).await
    }

    async fn towards(&self, via: &Via, target: &Target, headers: &mut HeaderMap) -> Result<Stream, Problem> {
        if let Some(value) = &via.authorization {
            headers.insert(header::PROXY_AUTHORIZATION, value.clone());
        }
        dial::proxy(&self.egress.outside, target, via, self.egress.settings.connect).await
    }

    async fn call(&self, far: Stream, request: Request<Incoming>) -> hyper::Result<Response<Body>> {
        let seen = Seen::default();
        let far = TokioIo::new(Counted::new(far, &seen));
        let (mut sender, connection) =
            client::Builder::new().preserve_header_case(true).handshake(far).await?;
        let (caller, gone) = oneshot::channel::<Infallible>();
        let egress = Arc::clone(&self.egress);
        self.tasks.spawn("network request", async move {
            tokio::select! {
                // The reader of the answer sees errors of the connection.
                _ = connection => {}
                // Nothing is ever sent: the answer was dropped.
                _ = gone => {}
                () = seen.silence(&egress.settings, &egress.env) => {}
            }
        });
        let (mut head, body) = sender.send_request(request).await?.into_parts();
        without_hops(&mut head.headers);
        let body = Called { body, _sender: sender, _caller: caller, _slot: Arc::clone(&self.slot) };
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }
}

/// The path alone, as a server is asked for it.
fn path_of(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::from(path)
}

fn without_hops(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// An error with what is behind it.
fn words(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}

/// A server's answer. Dropping it closes the connection to the server.
struct Called {
    body: Incoming,
    _sender: client::SendRequest<Incoming>,
    _caller: oneshot::Sender<Infallible>,
    _slot: Arc<Slot>,
}

impl HttpBody for Called {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
