//! An upstream whose target is known only later.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use foundry_core::Error;
use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tower::{BoxError, Service, ServiceExt as _};

use super::Upstream;

/// Binds a deferred [`Upstream`] to its target, once.
#[derive(Debug)]
pub struct UpstreamBinding(Arc<OnceLock<Upstream>>);

impl UpstreamBinding {
    /// All clones of the deferred upstream call `target` from now on.
    pub fn bind(self, target: Upstream) {
        // The binding is consumed here and nowhere else, so the cell is empty.
        let _ = self.0.set(target);
    }
}

#[derive(Clone)]
pub(super) struct Deferred(Arc<OnceLock<Upstream>>);

pub(super) fn pair() -> (Deferred, UpstreamBinding) {
    let cell = Arc::new(OnceLock::new());
    (Deferred(cell.clone()), UpstreamBinding(cell))
}

impl Service<Request<Body>> for Deferred {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.0.get() {
            Some(target) => Box::pin(target.clone().oneshot(request)),
            None => {
                let error =
                    Error::unavailable("STARTING", "the service is starting", Duration::from_millis(250));
                Box::pin(std::future::ready(Ok(error.into_status().into_http())))
            }
        }
    }
}
