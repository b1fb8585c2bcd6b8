//! The requests of one connection: CONNECT makes a tunnel, an absolute http:// URL is fetched.

use std::convert::Infallible;
use std::sync::Arc;

use foundry_core::Tasks;
use foundry_http_client::drop_hop_by_hop;
use foundry_sandbox::{Claim, Network, Share};
use http::header::{self, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::Inner;
use crate::answer::{Body, Problem};
use crate::dial::{self, Stream};
use crate::judge::{Route, route};
use crate::refusal_log::Line;
use crate::relay::{Counted, Seen, relay};
use crate::target::Target;
use crate::upstream::Via;

/// One connection of a sandbox.
pub(crate) struct Session {
    egress: Arc<Inner>,
    claim: Claim,
    network: Network,
    /// The connections of this listener: tunnels are drained with them.
    tasks: Tasks,
    slot: Arc<Share<String>>,
}

impl Session {
    pub fn new(
        egress: Arc<Inner>,
        claim: Claim,
        network: Network,
        tasks: Tasks,
        slot: Arc<Share<String>>,
    ) -> Self {
        Self { egress, claim, network, tasks, slot }
    }

    /// Answers one request; never fails.
    pub async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let method = request.method().clone();
        let done =
            if method == Method::CONNECT { self.tunnel(request).await } else { self.fetch(request).await };
        Ok(done.unwrap_or_else(|problem| {
            self.log_refusal(&problem);
            problem.response()
        }))
    }

    fn log_refusal(&self, problem: &Problem) {
        let sandbox = &self.claim.sandbox;
        match self.egress.refusals.count(sandbox, self.egress.env.clock.now()) {
            Line::Skip => tracing::debug!(sandbox, reason = problem.reason, "{}", problem.short),
            line => {
                let last = line == Line::Last;
                tracing::info!(
                    sandbox,
                    reason = problem.reason,
                    last_of_this_minute = last,
                    "{}",
                    problem.short
                );
            }
        }
    }

    async fn tunnel(&self, request: Request<Incoming>) -> Result<Response<Body>, Problem> {
        let target = Target::of(request.uri(), None)
            .ok_or_else(|| Problem::malformed("CONNECT needs exactly one host and port"))?;
        let far = match self.route(&target).await? {
            Route::Direct(addresses) => self.direct(&target, addresses).await?,
            Route::Via(via) => {
                let egress = &self.egress;
                let limit = egress.settings.connect;
                dial::tunnel(&egress.host_network, &target, &via, limit, &self.tasks).await?
            }
        };
        let (egress, slot, stop) =
            (Arc::clone(&self.egress), Arc::clone(&self.slot), self.tasks.cancellation().clone());
        self.tasks.spawn("network tunnel", async move {
            let settings = &egress.settings;
            let copied = async {
                // Fails when the client disconnects before it has the answer.
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
            return Err(Problem::malformed("this request has no http:// URL"));
        }
        let target = Target::of(request.uri(), Some(80))
            .ok_or_else(|| Problem::malformed("this request's URL has no host"))?;
        let route = self.route(&target).await?;
        drop_hop_by_hop(request.headers_mut());
        // The Host header must name the target that was checked.
        let host = request.uri().authority().map(|a| a.as_str().to_owned()).unwrap_or_default();
        let host = HeaderValue::from_str(&host).map_err(|_| Problem::malformed("the host is malformed"))?;
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
        let judged = route(&self.network, target, egress.host_network.as_ref(), egress.upstream.as_ref());
        match tokio::time::timeout(egress.settings.connect, judged).await {
            Ok(judged) => judged,
            Err(_) => Err(Problem::unresolved(target, "the resolver does not respond")),
        }
    }

    async fn direct(&self, target: &Target, addresses: Vec<std::net::SocketAddr>) -> Result<Stream, Problem> {
        dial::direct(&self.egress.host_network, target, addresses, self.egress.settings.connect).await
    }

    async fn towards(&self, via: &Via, target: &Target, headers: &mut HeaderMap) -> Result<Stream, Problem> {
        if let Some(value) = &via.authorization {
            headers.insert(header::PROXY_AUTHORIZATION, value.clone());
        }
        dial::proxy(&self.egress.host_network, target, via, self.egress.settings.connect).await
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
                // Errors of the connection surface at the reader of the answer.
                _ = connection => {}
                // Nothing is ever sent: this completes when the answer is dropped.
                _ = gone => {}
                () = seen.silence(&egress.settings, &egress.env) => {}
            }
        });
        let (mut head, body) = sender.send_request(request).await?.into_parts();
        drop_hop_by_hop(&mut head.headers);
        // Dropping the answer closes the connection to the server and frees the slot.
        let kept = (sender, caller, Arc::clone(&self.slot));
        let body = body.map_err(move |error| {
            let _ = &kept;
            error
        });
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }
}

/// The origin-form URI for a request sent directly to a server.
fn path_of(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::from(path)
}

/// An error with its source.
fn words(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}
