//! Forwards a request to a service and returns its response; neither body is buffered.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Code, Error};
use foundry_edge::draining;
use http::{Extensions, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower::{BoxError, ServiceExt as _};

use crate::answer::AnswerBody;
use crate::caller_limits::Permit;
use crate::cut::Place;
use crate::headers;
use crate::routes::Route;
use crate::session::SessionDirective;

/// Why the request's own body failed, if it did.
pub(crate) type RequestFailure = Arc<OnceLock<Status>>;

/// Calls the service; the permit is held until the end of the response.
pub(crate) async fn forward(
    route: &Route,
    request: Request<Body>,
    cut: Option<Place>,
    permit: Permit,
) -> Response<Body> {
    let failure = RequestFailure::default();
    let (mut parts, body) = request.into_parts();
    // Extensions are notes of this process, not part of the request.
    parts.extensions = Extensions::new();
    let body = Body::new(RequestBody { inner: body, failure: failure.clone() });
    let call = route.upstream.clone().oneshot(Request::from_parts(parts, body));
    let answered = match &cut {
        Some(place) => match place.until_cut(call).await {
            Some(answered) => answered,
            None => return draining().into_status().into_http(),
        },
        None => call.await,
    };
    match answered {
        Ok(answer) => pass_on(route, answer, cut, permit, failure),
        Err(error) => failed(route, &error, &failure).into_http(),
    }
}

fn pass_on(
    route: &Route,
    answer: Response<Body>,
    cut: Option<Place>,
    permit: Permit,
    failure: RequestFailure,
) -> Response<Body> {
    if let Some(status) = failure.get() {
        // The original error may be clearer than the service's status.
        return status.clone().into_http();
    }
    if answer.status() != StatusCode::OK {
        return no_grpc(route, answer.status()).into_status().into_http();
    }
    let (mut parts, body) = answer.into_parts();
    // Only auth may set or clear sessions.
    let directive = (route.service == "auth").then(|| SessionDirective::read(&parts.headers)).flatten();
    headers::clean_answer(&mut parts.headers);
    // Extensions that the service's layers have added are not for the gateway's.
    parts.extensions = Extensions::new();
    if let Some(directive) = directive {
        parts.extensions.insert(directive);
    }
    let complete = parts.headers.contains_key("grpc-status");
    let body = AnswerBody::new(body, complete, route.service, cut, permit, failure);
    Response::from_parts(parts, Body::new(body))
}

/// The error when something other than a gRPC server answered.
fn no_grpc(route: &Route, status: StatusCode) -> Error {
    unreachable(route.service).with("http_status", status.as_u16().to_string())
}

fn failed(route: &Route, error: &BoxError, failure: &RequestFailure) -> Status {
    if let Some(status) = failure.get() {
        return status.clone();
    }
    let error: &(dyn StdError + 'static) = &**error;
    let mut cause = Some(error);
    while let Some(it) = cause {
        if it.is::<tonic::TimeoutExpired>() {
            return late(route.service).into_status();
        }
        if let Some(status) = it.downcast_ref::<Status>()
            && status.source().is_none()
        {
            return status.clone();
        }
        cause = it.source();
    }
    tracing::warn!(upstream = route.service, error = %Chain(error), "the service cannot be reached");
    unreachable(route.service).into_status()
}

fn late(service: &'static str) -> Error {
    Error::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", format!("{service} did not respond in time"))
        .next_action("retry with the same request_id; a duplicate returns the first response")
}

/// The service is away.
fn unreachable(service: &'static str) -> Error {
    let text = format!("the {service} service cannot be reached");
    Error::unavailable("UPSTREAM_UNAVAILABLE", text, Duration::from_secs(1))
        .with("service", service)
        .next_action("retry with the same request_id; a duplicate returns the first response")
}

/// An error with its causes, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn StdError + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(it) = cause {
            write!(f, ": {it}")?;
            cause = it.source();
        }
        Ok(())
    }
}

/// A request body that records why it failed, because the error itself is lost in a channel.
struct RequestBody {
    inner: Body,
    failure: RequestFailure,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Err(status)) = &frame {
            // The first failure is the cause.
            let _ = self.failure.set(typed(status));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn typed(status: &Status) -> Status {
    if !status.details().is_empty() {
        return status.clone();
    }
    let text = format!("the request's body cannot be read: {}", status.message());
    Error::new(Code::InvalidArgument, "MALFORMED_MESSAGE", text).into_status()
}
