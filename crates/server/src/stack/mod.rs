//! The one layered stack of a service: what its listener serves and what a local [`Upstream`] calls.
//!
//! Read [`Stack::handle`] from top to bottom; each step has a comment on its purpose.
//!
//! [`Upstream`]: crate::Upstream

mod active;
mod bulkhead;
pub(crate) mod deadline;
mod framework;
mod log;
mod seat;
mod size;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use foundry_core::{Env, Error};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use tonic::body::Body;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;
use tracing::Instrument as _;

use active::ActiveEntry;
pub use active::{Active, Kind};
pub(crate) use log::name as code_name;
pub use seat::{Seat, Standing};
pub(crate) use seat::{StandingOf, seated};

use crate::config::Limits;
use crate::framed;
use crate::listen::ConnectionUse;
use crate::methods;
use crate::telemetry::{Metrics, REQUEST_ID, RequestContext};
use bulkhead::Bulkhead;
use log::RequestLog;
use seat::Place;
use size::{MeasuredBody, Measures};

/// A service that answers gRPC requests and never fails as a service.
pub type Routed = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The stack of one service; cloning shares it.
#[derive(Clone)]
pub(crate) struct Stack(Arc<Inner>);

struct Inner {
    service: &'static str,
    env: Env,
    limits: Limits,
    metrics: Metrics,
    active: Active,
    bulkhead: Arc<Bulkhead>,
    /// Health and reflection: open to everybody.
    open: Routed,
    /// Everything else, behind the service's authentication.
    protected: Routed,
}

impl Stack {
    pub(crate) fn new(
        service: &'static str,
        env: Env,
        limits: &Limits,
        metrics: Metrics,
        open: Routed,
        protected: Routed,
    ) -> Self {
        Self(Arc::new(Inner {
            service,
            env,
            limits: limits.clone(),
            active: Active::new(service, metrics.clone()),
            bulkhead: Arc::new(Bulkhead::new(service, limits, metrics.clone())),
            metrics,
            open,
            protected,
        }))
    }

    pub(crate) fn active(&self) -> &Active {
        &self.0.active
    }

    async fn handle(self, mut request: Request<Body>) -> Response<Body> {
        let inner = &*self.0;
        let known = methods::method(request.uri().path());
        let (method, streams) = known.unwrap_or((log::UNKNOWN, methods::MethodKind::default()));
        let kind = if streams.is_stream() { Kind::Stream } else { Kind::Unary };

        // The request's ids: from the caller's headers, or new ones; current while the handler runs.
        let context = RequestContext::extract(request.headers(), &inner.env);
        let span = context.span(inner.service);

        // One log line and one measurement when the answer has ended. Authentication records the caller in the span.
        let log = RequestLog::start(
            inner.service,
            known.map(|(method, _)| method),
            request.uri(),
            inner.metrics.clone(),
            span.clone(),
        );

        // Counted for the drain until the end of the answer. The seat is taken behind the service's authentication.
        let held = match inner.admit(kind, method, &context, &mut request) {
            Ok(held) => held,
            Err(refused) => return log.follow(answer(refused, &context), ()),
        };

        // A deadline that cannot be read would let the call run for longer than its caller waits.
        let limit = match deadline::limit(request.headers(), inner.limits.unary_timeout) {
            Ok(limit) => limit,
            Err(refused) => return log.follow(answer(refused, &context), held),
        };

        // A message that is oversize or one too many is refused at its head, typed, before it is buffered.
        let measures = Measures {
            limit: inner.limits.message_bytes,
            is_single: !streams.client_streaming,
            received: log.received(),
            seat: held.1.seat(),
        };
        let mut request = request.map(|body| Body::new(MeasuredBody::new(body, measures)));
        request.extensions_mut().insert(context.clone());

        // Health and reflection are open; all else goes through the service's authentication to its routes.
        let routes = if is_open(method) { inner.open.clone() } else { inner.protected.clone() };
        let call = async move {
            match routes.oneshot(request).await {
                // Watches have a body of their own, which shares and keeps no buffer.
                Ok(answer) => framed::take_over(answer),
                Err(never) => match never {},
            }
        };

        // A panic in a handler fails only that request.
        let call = AssertUnwindSafe(context.clone().scope(call)).catch_unwind();

        // Unary calls end in bounded time. Streams last until either side ends them.
        let outcome = async {
            match kind {
                Kind::Unary => deadline::within(limit, call).await,
                Kind::Stream => Ok(call.await),
            }
        }
        .instrument(span)
        .await;
        let answer = match outcome {
            // Errors of the framework itself are typed, too.
            Ok(Ok(response)) => tagged(framework::typed(response), &context),
            Ok(Err(panic)) => answer(panicked(panic.as_ref()), &context),
            Err(late) => answer(late, &context),
        };
        log.follow(answer, held)
    }

    /// Plain HTTP beside gRPC: the same ids, log line, drain count, panic and time bounds; errors are HTTP statuses.
    pub(crate) async fn handle_plain(
        self,
        routes: Routed,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Infallible> {
        let inner = &*self.0;
        let context = RequestContext::extract(request.headers(), &inner.env);
        let span = context.span(inner.service);
        let log = RequestLog::start(inner.service, None, request.uri(), inner.metrics.clone(), span.clone());
        let admitted = inner.admit(Kind::Unary, "http", &context, &mut request).and_then(|held| {
            // Nothing here looks at credentials.
            held.1.take(Standing::Anonymous)?;
            Ok(held)
        });
        let Ok(held) = admitted else {
            return Ok(log.follow(tagged(status_only(StatusCode::SERVICE_UNAVAILABLE), &context), ()));
        };
        request.extensions_mut().insert(context.clone());
        let call = AssertUnwindSafe(context.clone().scope(routes.oneshot(request))).catch_unwind();
        let outcome = deadline::within(inner.limits.unary_timeout, call).instrument(span).await;
        let response = match outcome {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(panic)) => {
                // Logged by the conversion; callers get only the status.
                let _ = panicked(panic.as_ref()).into_status();
                status_only(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Err(_) => status_only(StatusCode::GATEWAY_TIMEOUT),
        };
        Ok(log.follow(tagged(response, &context), held))
    }
}

/// Held until the end of an answer.
type Admission = (Option<ActiveEntry>, Arc<Place>);

impl Inner {
    /// Admits a request and leaves its seat, still to be taken, in its extensions.
    fn admit(
        &self,
        kind: Kind,
        method: &'static str,
        context: &RequestContext,
        request: &mut Request<Body>,
    ) -> Result<Admission, Error> {
        let connection = request.extensions_mut().remove::<ConnectionUse>();
        let place = Place::new(Arc::clone(&self.bulkhead), kind, connection);
        request.extensions_mut().insert(place.seat());
        if is_open(method) {
            // Health is answered while draining and overloaded, when it is needed most. The drain does not wait for it.
            if kind == Kind::Stream {
                place.take(Standing::Anonymous)?;
            }
            return Ok((None, place));
        }
        // The drain waits for this until the end of the answer; refused while draining.
        Ok((Some(self.active.enter(kind, method, &context.request_id)?), place))
    }
}

fn status_only(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn is_open(method: &str) -> bool {
    method.starts_with("/grpc.health.v1.") || method.starts_with("/grpc.reflection.")
}

fn answer(error: Error, context: &RequestContext) -> Response<Body> {
    tagged(error.into_status().into_http(), context)
}

/// Adds the request's id, as in the log, to the response.
fn tagged(mut response: Response<Body>, context: &RequestContext) -> Response<Body> {
    if let Ok(id) = context.request_id.parse() {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned());
    Error::internal(format!("the handler panicked: {text}"))
}

impl tower::Service<Request<Body>> for Stack {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().handle(request).map(Ok))
    }
}
