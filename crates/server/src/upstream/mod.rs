//! An upstream: the other service as a tower service, wherever it runs.
//!
//! Remote, it is a channel for unary calls and as many as needed for streams; local, it is the layered stack that the other service's
//! listener serves, called without a socket. Generated clients cannot tell the difference.

mod deferred;
mod lanes;
mod remote;

use std::fmt;
use std::task::{Context, Poll};

use foundry_core::Error;
use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service};

pub use deferred::UpstreamBinding;
use remote::Remote;
pub(crate) use remote::{CONNECTION_WINDOW, STREAM_WINDOW};

use crate::telemetry::RequestContext;
use crate::tls::{Certificates, Connector};

/// A service to call: `TaskServiceClient<Upstream>`. Cloning is cheap.
///
/// Every call carries the current request id and trace context.
#[derive(Clone)]
pub struct Upstream(BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>);

impl Upstream {
    /// A service in another process, at `http://host:port`; connects at the first call. Needs a runtime.
    ///
    /// # Errors
    /// When the URL is not valid.
    pub fn remote(url: &str) -> Result<Self, Error> {
        Ok(Self::from_service(Remote::connect_lazily(url, None)?))
    }

    /// The service of this name in another process, at `https://host:port`: it must prove by its certificate that it is
    /// that service, and this process proves by its own who calls.
    ///
    /// # Errors
    /// When the URL is not valid.
    pub fn proven(url: &str, service: &'static str, certificates: &Certificates) -> Result<Self, Error> {
        let connector = Connector::of_service(certificates.clone(), service);
        Ok(Self::from_service(Remote::connect_lazily(url, Some(connector))?))
    }

    /// An upstream to be bound later: services of one process may be built in any order.
    pub fn deferred() -> (Self, UpstreamBinding) {
        let (service, binding) = deferred::pair();
        (Self::from_service(service), binding)
    }

    /// Any service that answers gRPC requests.
    pub fn from_service<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let service = tower::util::MapErr::new(service, Into::into as fn(S::Error) -> BoxError);
        let service = tower::util::MapResponse::new(service, |r: Response<B>| r.map(Body::new));
        Self(BoxCloneSyncService::new(service))
    }

    /// The same upstream behind a client-side layer, for example one that adds this service's identity.
    #[must_use]
    pub fn layer<L, B>(self, layer: L) -> Self
    where
        L: Layer<Self>,
        L::Service: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<Body>>>::Error: Into<BoxError>,
        <L::Service as Service<Request<Body>>>::Future: Send + 'static,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::from_service(layer.layer(self))
    }
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        RequestContext::inject(request.headers_mut());
        self.0.call(request)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream")
    }
}
