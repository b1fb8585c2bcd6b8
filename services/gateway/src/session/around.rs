//! Page sessions around everything that the gateway serves: no request gets past them with an invalid cookie, or with
//! a session secret as a bearer token.

use std::convert::Infallible;
use std::task::{Context, Poll};

use foundry_core::Error;
use foundry_proto::options::v1::Access;
use foundry_server::PeerAddress;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;

use super::Sessions;
use crate::caller_limits::{Account, CallerBook};
use crate::routes::RouteTable;

/// Wraps a service with page sessions.
#[derive(Clone)]
pub(crate) struct SessionService<S> {
    inner: S,
    sessions: Sessions,
    routes: RouteTable,
    callers: CallerBook,
}

impl<S> SessionService<S> {
    pub(crate) fn new(inner: S, sessions: Sessions, routes: RouteTable, callers: CallerBook) -> Self {
        Self { inner, sessions, routes, callers }
    }
}

impl<S> tower::Service<Request<Body>> for SessionService<S>
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let is_open = self.routes.find(request.uri().path()).is_ok_and(|r| r.access == Access::Open);
        let cookie_auth = if is_open {
            Ok(self.sessions.authenticate_open(&mut request))
        } else {
            self.sessions.authenticate(&mut request).map_err(|refused| {
                // Guessing keys counts against the limits of the address.
                let peer = request.extensions().get::<PeerAddress>().copied();
                self.callers.charge(&Account::of_peer(peer)).err().unwrap_or(refused)
            })
        };
        match cookie_auth {
            Ok(cookie_auth) => {
                let sessions = self.sessions.clone();
                let answer = self.inner.call(request);
                answer
                    .map(move |answer| answer.map(|answer| sessions.apply_to_response(&cookie_auth, answer)))
                    .boxed()
            }
            Err(refused) => std::future::ready(Ok(Error::into_status(refused).into_http())).boxed(),
        }
    }
}
