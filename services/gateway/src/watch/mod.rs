//! Many watches on one stream.
//!
//! A stream ([`session`]) carries watches. Each begins with a question to its owner, under the
//! caller's token ([`credential`]), and then reads a stream of its own in the gateway's name
//! ([`reader`]) until it is caught up. From then on it reads the ring of its topic ([`topic`]),
//! which one upstream fills for all who look at the same view ([`pump`]). Whoever falls behind the
//! ring goes back to a stream of its own: what it missed comes conflated, by state.
//!
//! The edge knows no entity: it reads the heads of frames and renumbers them for each caller.

mod authorize;
mod budget;
mod credential;
mod frames;
mod guard;
mod host;
mod link;
mod opened;
mod owners;
mod pump;
mod question;
mod reader;
mod ready_queue;
mod ring;
mod rpc;
mod session;
mod shared;
mod slot;
mod starter;
mod starts;
mod stream_watch;
mod streams;
mod subscription_set;
mod topic;
mod topics;
mod watch_request;
mod watchers;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use foundry_authn::{Authenticator, Caller, IdentityLayer, ServiceIdentity};
use foundry_core::{Env, Result, Tasks};
use foundry_proto::edge::v1::edge_service_server::{EdgeServiceServer, SERVICE_NAME};
use foundry_server::{Upstream, methods};
use foundry_watch::{Drain, Observer};
use http::{Request, Response};
use tonic::body::Body;
use tower::ServiceExt as _;

use budget::Budgets;
use credential::Tokens;
pub(crate) use host::{Allowance, Exchanged, Routes, Token, TokenExchange};
use owners::{Owner, Owners};
use rpc::Call;
pub(crate) use session::draining;
use shared::Shared;
use starts::Starts;
use streams::Streams;
use topics::Topics;
use watchers::Watchers;

/// How long a drained stream goes on after its client was to open the next one: a connection elsewhere, with one more
/// attempt if the first leads back here. A client that has moved earlier ends it.
const OVERLAP: Duration = Duration::from_secs(1);

/// What the edge's streams are made with.
pub(crate) struct Parts<'a> {
    pub(crate) env: &'a Env,
    pub(crate) tasks: &'a Tasks,
    pub(crate) upstreams: &'a BTreeMap<&'static str, Upstream>,
    pub(crate) identity: &'a ServiceIdentity,
    pub(crate) authenticator: &'a Arc<Authenticator>,
    pub(crate) exchange: Arc<dyn TokenExchange>,
    pub(crate) routes: Arc<dyn Routes>,
    pub(crate) observer: &'a Arc<dyn Observer>,
    pub(crate) watches_per_user: usize,
}

/// Serves the edge's own rpcs; cloning shares it.
#[derive(Clone)]
pub(crate) struct WatchEdge(Arc<Shared>);

impl WatchEdge {
    /// Its full gRPC name.
    pub(crate) const SERVICE: &'static str = SERVICE_NAME;

    /// # Errors
    /// When the descriptors are unsound.
    pub(crate) fn new(parts: &Parts<'_>) -> Result<Self> {
        let mut owners = BTreeMap::new();
        for (name, upstream) in parts.upstreams {
            let as_gateway = upstream.clone().layer(IdentityLayer::new(parts.identity.clone(), name)?);
            owners.insert(*name, Owner { plain: upstream.clone(), as_gateway });
        }
        let (env, tasks) = (parts.env.clone(), parts.tasks.clone());
        let owners = Arc::new(Owners::new(owners, Arc::clone(&env.clock)));
        let observer = Arc::clone(parts.observer);
        let topics = Topics::new(Arc::clone(&owners), env.clone(), tasks.clone(), Arc::clone(&observer));
        let tokens = Arc::new(Tokens {
            exchange: Arc::clone(&parts.exchange),
            authenticator: Arc::clone(parts.authenticator),
            clock: Arc::clone(&env.clock),
        });
        Ok(Self(Arc::new(Shared {
            drain: Drain::new(env.clone(), OVERLAP),
            env,
            tasks,
            owners,
            topics,
            starts: Starts::default(),
            budgets: Budgets::default(),
            watchers: Watchers::new(parts.watches_per_user),
            tokens,
            streams: Streams::default(),
            routes: Arc::clone(&parts.routes),
            observer,
        })))
    }

    /// Whether the edge serves this path itself.
    pub(crate) fn serves(path: &str) -> bool {
        path.strip_prefix('/').and_then(|p| p.strip_prefix(SERVICE_NAME)).is_some_and(|p| p.starts_with('/'))
            && methods::method(path).is_some()
    }

    /// Answers a request of this caller, who showed this token; the allowance is held until the end of the answer.
    pub(crate) async fn serve(
        &self,
        request: Request<Body>,
        caller: Caller,
        token: Token,
        allowance: Arc<dyn Allowance>,
    ) -> Response<Body> {
        let call = Call { shared: Arc::clone(&self.0), caller, token, allowance };
        let answer: std::result::Result<_, Infallible> = EdgeServiceServer::new(call).oneshot(request).await;
        match answer {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }

    /// Ends all streams, their reconnects spread over this time at most; refuses new ones.
    pub(crate) async fn drain(&self, spread: Duration) {
        if !self.0.drain.drain(spread).await {
            tracing::info!(
                open = self.0.drain.open_streams(),
                "streams that nobody reads end with their connections"
            );
        }
        self.0.topics.close();
    }
}
