//! A service as its crate builds it, and the same service mounted: stack, health, listener.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use foundry_core::{Env, Error, Tasks};
use http::{Extensions, Request, Response};
use tonic::body::Body;
use tonic::service::Routes;
use tower::util::{BoxCloneSyncService, MapRequest};
use tower::{Layer, Service as TowerService};

use crate::config::ServerConfig;
use crate::lifecycle::Phases;
use crate::open_routes::{Health, open_routes};
use crate::stack::{Active, Routed, Stack, Standing, StandingOf, seated};
use crate::telemetry::Metrics;
use crate::tls::Certificates;
use crate::upstream::Upstream;

/// Reads the counters of a service's database: the kind of operation, and how often it was done.
pub type ReadCounts = Arc<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;
type Wrap = Arc<dyn Fn(Routed) -> Routed + Send + Sync>;

/// A service as its crate builds it: routes, authentication, and how it stops.
pub struct Service {
    pub(crate) name: &'static str,
    pub(crate) grpc_services: Vec<String>,
    pub(crate) routes: Routed,
    pub(crate) health: Health,
    pub(crate) authentication: Option<Wrap>,
    pub(crate) standing_of: Option<StandingOf>,
    pub(crate) edge: Option<Wrap>,
    pub(crate) plain: Option<axum::Router>,
    pub(crate) grpc_web: bool,
    pub(crate) certificates: Option<Certificates>,
    pub(crate) phases: Phases,
    pub(crate) background: Option<Tasks>,
    pub(crate) counts: Option<ReadCounts>,
}

impl Service {
    /// A service with its routes. `grpc_services` are the full names of the gRPC services it implements, for health
    /// and reflection: `foundry.task.v1.TaskService`.
    pub fn new(
        name: &'static str,
        grpc_services: impl IntoIterator<Item = impl Into<String>>,
        routes: Routes,
    ) -> Self {
        Self::forwarding(name, grpc_services, BoxCloneSyncService::new(routes.prepare()))
    }

    /// A service that implements nothing itself and forwards every request. `grpc_services` are those for which it
    /// answers.
    pub fn forwarding(
        name: &'static str,
        grpc_services: impl IntoIterator<Item = impl Into<String>>,
        routes: Routed,
    ) -> Self {
        let grpc_services: Vec<String> = grpc_services.into_iter().map(Into::into).collect();
        Self {
            name,
            health: Health::new(&grpc_services),
            grpc_services,
            routes,
            authentication: None,
            standing_of: Some(|_| Standing::Identified),
            edge: None,
            plain: None,
            grpc_web: false,
            certificates: None,
            phases: Phases::default(),
            background: None,
            counts: None,
        }
    }

    /// The layer that verifies callers; health and reflection stay outside it.
    #[must_use]
    pub fn authenticated_by<L>(mut self, layer: L) -> Self
    where
        L: Layer<Routed> + Send + Sync + 'static,
        L::Service: TowerService<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as TowerService<Request<Body>>>::Future: Send + 'static,
    {
        self.authentication = Some(Arc::new(move |inner| BoxCloneSyncService::new(layer.layer(inner))));
        self
    }

    /// Sets how the standing of a caller is read from the extensions that authentication left. Without it every caller
    /// who passed authentication counts as identified: enough where no method is open.
    #[must_use]
    pub fn standing_of(mut self, read: StandingOf) -> Self {
        self.standing_of = Some(read);
        self
    }

    /// The service takes the [`Seat`](crate::Seat) of each request itself, because it checks credentials itself.
    #[must_use]
    pub fn takes_seats(mut self) -> Self {
        self.standing_of = None;
        self
    }

    /// The health of the service; a service that depends on others reports their failures here.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Sets how the service stops.
    #[must_use]
    pub fn phases(mut self, phases: Phases) -> Self {
        self.phases = phases;
        self
    }

    /// Sets the counters of the service's database, shown with the metrics as `foundry_store_work_total`.
    #[must_use]
    pub fn counts(mut self, read: ReadCounts) -> Self {
        self.counts = Some(read);
        self
    }

    /// Sets the service's own background tasks: cancelled and awaited after its jobs and before its store closes.
    #[must_use]
    pub fn background(mut self, tasks: Tasks) -> Self {
        self.background = Some(tasks);
        self
    }

    /// Enables gRPC-Web, on the gRPC routes only. For the gateway.
    #[must_use]
    pub fn grpc_web(mut self) -> Self {
        self.grpc_web = true;
        self
    }

    /// Serves over TLS with these certificates, if there are any, and over nothing else.
    #[must_use]
    pub fn over_tls(mut self, certificates: Option<Certificates>) -> Self {
        self.certificates = certificates;
        self
    }

    /// Sets plain HTTP routes for every request that is not gRPC.
    #[must_use]
    pub fn plain_routes(mut self, router: axum::Router) -> Self {
        self.plain = Some(router);
        self
    }

    /// Adds a layer around everything the listener serves, plain routes and gRPC-Web included: CORS, limits by address.
    #[must_use]
    pub fn edge_layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Routed> + Send + Sync + 'static,
        L::Service: TowerService<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as TowerService<Request<Body>>>::Future: Send + 'static,
    {
        self.edge = Some(Arc::new(move |inner| BoxCloneSyncService::new(layer.layer(inner))));
        self
    }

    /// Puts the service on its stack: from here on a local [`Upstream`] reaches it.
    ///
    /// # Errors
    /// When the descriptors cannot be served.
    pub async fn mount(self, config: &ServerConfig, env: &Env, metrics: &Metrics) -> Result<Mounted, Error> {
        let health = self.health;
        health.set(false).await;
        if let Some(read) = self.counts {
            metrics.observe_store(self.name, read);
        }
        let open = BoxCloneSyncService::new(open_routes(&self.grpc_services, &health)?.prepare());
        // Inside authentication: a seat among identified callers is for a request with a valid credential.
        let routes = match self.standing_of {
            Some(standing_of) => seated(self.routes, standing_of),
            None => self.routes,
        };
        let protected = match &self.authentication {
            Some(wrap) => wrap(routes),
            None => routes,
        };
        let stack = Stack::new(self.name, env.clone(), &config.limits, metrics.clone(), open, protected);
        Ok(Mounted {
            name: self.name,
            config: config.clone(),
            edge: self.edge,
            plain: self.plain,
            grpc_web: self.grpc_web,
            certificates: self.certificates,
            phases: self.phases,
            background: self.background,
            stack,
            health,
        })
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A service on its stack, not yet listening.
pub struct Mounted {
    pub(crate) name: &'static str,
    pub(crate) config: ServerConfig,
    pub(crate) edge: Option<Wrap>,
    pub(crate) plain: Option<axum::Router>,
    pub(crate) grpc_web: bool,
    pub(crate) certificates: Option<Certificates>,
    pub(crate) phases: Phases,
    pub(crate) background: Option<Tasks>,
    pub(crate) stack: Stack,
    pub(crate) health: Health,
}

impl Mounted {
    /// The service for callers in this process: the same stack, without a socket.
    pub fn upstream(&self) -> Upstream {
        Upstream::from_service(MapRequest::new(self.stack.clone(), |mut request: Request<Body>| {
            // The extensions of the caller's own request (such as its caller's identity) must not cross to another
            // service.
            *request.extensions_mut() = Extensions::new();
            request
        }))
    }

    /// The requests in progress.
    pub fn active(&self) -> &Active {
        self.stack.active()
    }
}

impl fmt::Debug for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mounted").field("name", &self.name).finish_non_exhaustive()
    }
}
