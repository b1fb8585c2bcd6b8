//! The client side: what a service adds to its calls of other services.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderValue, Request, Response};
use tonic::body::Body;

use crate::{MethodPolicies, ServiceIdentity};

/// Metadata with the user a service acts for: data for the audit, never a permission, and accepted only together with a
/// service's token.
pub const ON_BEHALF_OF: &str = "foundry-on-behalf-of";

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Deadline of a unary call whose caller sets none.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// Adds the service's token and a deadline to each call of one other service. An authorization or deadline that the
/// request already has is kept, so that the gateway can pass on a user's token. (The trace context is added by the
/// upstream itself.)
#[derive(Clone)]
pub struct IdentityLayer {
    identity: ServiceIdentity,
    audience: Arc<str>,
    methods: Arc<MethodPolicies>,
    deadline: Duration,
}

impl IdentityLayer {
    /// For calls by this identity to the service of this name.
    ///
    /// # Errors
    /// `INTERNAL` when the descriptors are unsound.
    pub fn new(identity: ServiceIdentity, audience: &str) -> foundry_core::Result<Self> {
        let methods = MethodPolicies::shared()?;
        Ok(Self { identity, audience: audience.into(), methods, deadline: DEFAULT_DEADLINE })
    }

    /// Sets the deadline of unary calls that have none, in place of ten seconds.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    fn complete<B>(&self, request: &mut Request<B>) -> foundry_core::Result<()> {
        if !request.headers().contains_key(AUTHORIZATION) {
            let token = format!("Bearer {}", self.identity.token(&self.audience)?);
            let mut value = HeaderValue::try_from(token).map_err(foundry_core::Error::internal)?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let unary = self.methods.get(request.uri().path()).is_some_and(|m| !m.server_streaming);
        if unary && !request.headers().contains_key(GRPC_TIMEOUT) {
            let millis = self.deadline.as_millis().min(99_999_999);
            if let Ok(value) = HeaderValue::try_from(format!("{millis}m")) {
                request.headers_mut().insert(GRPC_TIMEOUT, value);
            }
        }
        Ok(())
    }
}

impl<S> tower::Layer<S> for IdentityLayer {
    type Service = IdentityService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdentityService { inner, layer: self.clone() }
    }
}

/// The service made by [`IdentityLayer`].
#[derive(Clone)]
pub struct IdentityService<S> {
    inner: S,
    layer: IdentityLayer,
}

impl<S, B> tower::Service<Request<B>> for IdentityService<S>
where
    S: tower::Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.layer.complete(&mut request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(e) => Box::pin(std::future::ready(Ok(e.into_status().into_http()))),
        }
    }
}
