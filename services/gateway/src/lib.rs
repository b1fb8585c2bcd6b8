//! The gateway: the edge of the mesh. One port for gRPC and gRPC-Web; after the token and the caller's limits are
//! checked, requests go undecoded to the service that owns their method.
//!
//! It has no tables and no business rules. It adds to a request: the caller's JWT in place of an opaque token, or,
//! for open methods, its own identity and where the client is. It serves `foundry.edge.v1` itself: many watches on
//! one stream.

mod admission;
mod answer;
mod caller_limits;
mod config;
mod cut;
mod edge;
mod entrance;
mod exchange;
mod forward;
mod git;
mod headers;
mod health;
mod page;
mod proxies;
mod routes;
mod session;
mod sign_in;
mod web;
mod webhooks;

use std::collections::BTreeMap;
use std::sync::Arc;

use foundry_authn::{Authenticator, IdentityLayer, ServiceIdentity};
use foundry_core::{Env, Error, Result, Tasks};
use foundry_edge::WatchEdge;
use foundry_proto::auth::v1::auth_service_client::AuthServiceClient;
use foundry_server::{Certificates, Phases, Service, Upstream};
use foundry_watch::Observer;
use tower::util::BoxCloneSyncService;

use admission::Admission;
use caller_limits::CallerBook;
pub use config::{CallerLimits, Config};
use cut::Cut;
use edge::Edge;
use exchange::Exchange;
use page::Page;
use routes::RouteTable;
use session::{SessionService, Sessions};

/// What the gateway is built from.
pub struct Dependencies {
    /// Time and randomness.
    pub env: Env,
    /// Owner of the background tasks.
    pub tasks: Tasks,
    /// The services behind it, by name (`task`), **without** an identity layer: a request is sent as its caller.
    pub upstreams: BTreeMap<&'static str, Upstream>,
    /// Verifies callers as the service `gateway`; its list of revocations is kept up to date.
    pub authenticator: Arc<Authenticator>,
    /// The gateway's own identity.
    pub identity: ServiceIdentity,
    /// Observes the edge's streams, their watches and topics.
    pub watch_observer: Arc<dyn Observer>,
}

/// Builds the gateway and starts its health checks.
///
/// # Errors
/// When there is no `auth` upstream, an origin or a network in the configuration is not valid, or the files of the
/// certificate cannot be used.
pub async fn build(config: &Config, deps: Dependencies) -> Result<Service> {
    let routes = RouteTable::new(&deps.upstreams, deps.authenticator.policies());
    let auth = deps.upstreams.get("auth").ok_or_else(|| Error::internal("the gateway needs auth"))?;
    let auth = auth.clone().layer(IdentityLayer::new(deps.identity.clone(), "auth")?);
    let sign_in = AuthServiceClient::new(auth.clone());
    let exchange = Exchange::new(
        AuthServiceClient::new(auth),
        deps.authenticator.clone(),
        &deps.env,
        deps.tasks.clone(),
    );
    let watch = WatchEdge::new(&foundry_edge::Parts {
        env: &deps.env,
        tasks: &deps.tasks,
        upstreams: &deps.upstreams,
        identity: &deps.identity,
        authenticator: &deps.authenticator,
        exchange: Arc::new(exchange.clone()),
        routes: Arc::new(routes.clone()),
        observer: &deps.watch_observer,
        watches_per_user: config.watches_per_user,
    })?;
    let cut = Cut::default();
    let callers = CallerBook::new(config, &deps.env);
    let webhooks = match deps.upstreams.get("repo") {
        Some(repo) => {
            let limits = (config.webhook_answer, deps.tasks.clone());
            webhooks::routes(repo, deps.identity.clone(), callers.clone(), limits)?
        }
        None => axum::Router::new(),
    };
    let sessions = Sessions::new(config, &deps.identity, &deps.env)?;
    let sign_in = sign_in::routes(config, sign_in, callers.clone(), &deps.env)?;
    let edge = Edge::new(edge::Parts {
        admission: Admission::new(deps.authenticator, exchange, deps.identity),
        callers: callers.clone(),
        routes: routes.clone(),
        cut: cut.clone(),
        watch: watch.clone(),
    });
    // Around everything that is served, so that no cookie is accepted without its key.
    let edge = BoxCloneSyncService::new(SessionService::new(edge, sessions, routes.clone(), callers));
    let git = git::routes(edge.clone());
    let served = routes.services().into_iter().chain([WatchEdge::SERVICE.to_owned()]);
    let service = Service::forwarding("gateway", served, edge);
    let health = service.health();
    health::watch_over(&routes, &deps.upstreams, &health, config.health_interval, &deps.env, &deps.tasks)
        .await;
    let clock = deps.env.clock.clone();
    let certificates = Certificates::of_edge(&config.tls, "gateway.tls").await?;
    Ok(service
        .over_tls(certificates)
        .takes_seats()
        .grpc_web()
        .plain_routes(
            web::plain_routes(health, Page::embedded(&deps.env)).merge(git).merge(webhooks).merge(sign_in),
        )
        .edge_layer(web::edge_layer(config)?)
        .phases(Phases::default().drain_watches(move |spread| async move {
            tokio::join!(cut.all(spread, &*clock), watch.drain(spread));
            Vec::new()
        })))
}
