//! Many watches on one stream: `foundry.edge.v1`, as the gateway serves it.
//!
//! A stream (`stream/`) carries watches. Each begins with a question to its owner, under the caller's token
//! (`permission/`), and then reads a stream of its own in the gateway's name (`catch_up/`) until nothing is missing.
//! From then on it reads the ring of its topic (`topic/`), which one upstream fills for all who look at the same view.
//! A watch that falls behind the ring goes back to a stream of its own: what it missed comes conflated, by state.
//!
//! The edge knows no entity: it reads the heads of frames and renumbers them for each caller. It does not know the
//! gateway around it either, which provides [`Routes`], a [`TokenExchange`] and an [`Allowance`] for each request.
//!
//! Imports point one way: from `stream` to the other three, from `catch_up` to `topic` and `permission`, which do not
//! know each other, and from all of them to the files beside the rooms (what is watched, who owns it, whose turn it is, and what
//! the gateway provides).

mod catch_up;
mod host;
mod owners;
mod permission;
mod ready_queue;
mod stream;
mod topic;
mod watch_request;

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

use catch_up::{Budgets, Starts};
pub use host::{Allowance, Exchanged, Routes, Token, TokenExchange};
use owners::{Owner, Owners};
use permission::Tokens;
pub use stream::draining;
use stream::{Call, Shared, Streams, Watchers};
use topic::Topics;

/// How long a drained stream goes on after its client was to open the next one: a connection elsewhere, with one more
/// attempt if the first leads back here. A client that has moved earlier ends it.
const OVERLAP: Duration = Duration::from_secs(1);

/// What the edge's streams are made with.
pub struct Parts<'a> {
    /// Time and randomness.
    pub env: &'a Env,
    /// Owner of the background tasks; its cancellation ends all streams.
    pub tasks: &'a Tasks,
    /// The owners of watches, by name (`task`), without an identity layer.
    pub upstreams: &'a BTreeMap<&'static str, Upstream>,
    /// In whose name owners are read.
    pub identity: &'a ServiceIdentity,
    /// Applies revocations to callers.
    pub authenticator: &'a Arc<Authenticator>,
    /// Where opaque tokens are exchanged.
    pub exchange: Arc<dyn TokenExchange>,
    /// Which of the `upstreams` owns a method.
    pub routes: Arc<dyn Routes>,
    /// Observes streams, their watches and topics.
    pub observer: &'a Arc<dyn Observer>,
    /// Watches that one user may have at a time, over all streams and credentials.
    pub watches_per_user: usize,
}

/// Serves the edge's own rpcs; cloning shares it.
#[derive(Clone)]
pub struct WatchEdge(Arc<Shared>);

impl WatchEdge {
    /// The full gRPC name of the service that it serves.
    pub const SERVICE: &'static str = SERVICE_NAME;

    /// An edge without streams. Owners are reached when the first watch asks for one.
    ///
    /// # Errors
    /// When the descriptors are unsound.
    pub fn new(parts: &Parts<'_>) -> Result<Self> {
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
    pub fn serves(path: &str) -> bool {
        path.strip_prefix('/').and_then(|p| p.strip_prefix(SERVICE_NAME)).is_some_and(|p| p.starts_with('/'))
            && methods::method(path).is_some()
    }

    /// Answers a request of this caller, who showed this token; the allowance is held until the end of the answer.
    pub async fn serve(
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
    pub async fn drain(&self, spread: Duration) {
        if !self.0.drain.drain(spread).await {
            tracing::info!(
                open = self.0.drain.open_streams(),
                "streams without a reader end with their connections"
            );
        }
        self.0.topics.close();
    }
}
