//! One line and one measurement per request, written when its answer has ended, however it ended.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::Span;

use crate::telemetry::Metrics;

/// Stands for a method that is not in the descriptors.
pub(crate) const UNKNOWN: &str = "unknown";
/// Characters of a path in a log line, bounded because the text comes from the caller.
const MAX_PATH: usize = 128;

/// The record of one request; its line is written when it is dropped.
pub(crate) struct RequestLog {
    service: &'static str,
    /// From the descriptors, so that there are few labels.
    method: &'static str,
    /// The requested path, when it is not in the descriptors.
    path: String,
    metrics: Metrics,
    span: Span,
    started: Instant,
    received: Arc<Received>,
    sent: u64,
    outcome: Outcome,
}

/// How much of a request's body has arrived.
#[derive(Default)]
pub(crate) struct Received {
    /// Bytes of its body that have arrived.
    pub(crate) bytes: AtomicU64,
    /// Whether the caller reset the stream or disconnected before the end.
    pub(crate) broke_off: AtomicBool,
}

#[derive(Clone, Copy)]
enum Outcome {
    /// The caller disconnected before the answer was complete.
    Abandoned,
    Grpc(Code),
    Http(u16),
}

impl RequestLog {
    pub(crate) fn start(
        service: &'static str,
        method: Option<&'static str>,
        uri: &Uri,
        metrics: Metrics,
        span: Span,
    ) -> Self {
        let path = match method {
            Some(_) => String::new(),
            None => uri.path().chars().take(MAX_PATH).collect(),
        };
        Self {
            service,
            method: method.unwrap_or(UNKNOWN),
            path,
            metrics,
            span,
            started: Instant::now(),
            received: Arc::default(),
            sent: 0,
            outcome: Outcome::Abandoned,
        }
    }

    /// For the request's body, to record its bytes and its end.
    pub(crate) fn received(&self) -> Arc<Received> {
        self.received.clone()
    }

    /// Follows an answer to its end; `held` is kept until then.
    pub(crate) fn follow<G: Send + Unpin + 'static>(
        mut self,
        answer: Response<Body>,
        held: G,
    ) -> Response<Body> {
        let grpc = answer
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|t| t.as_bytes().starts_with(b"application/grpc"));
        if !grpc {
            self.outcome = Outcome::Http(answer.status().as_u16());
        }
        self.note_status(answer.headers());
        answer.map(|inner| Body::new(FollowedBody { inner, _held: held, log: self }))
    }

    fn note_status(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status") {
            self.outcome = Outcome::Grpc(Code::from_bytes(code.as_bytes()));
        }
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let http;
        // The handler then fails too, but the caller has gone: this is no failure of the service.
        if self.received.broke_off.load(Ordering::Relaxed) && !matches!(self.outcome, Outcome::Grpc(Code::Ok))
        {
            self.outcome = Outcome::Abandoned;
        }
        let code: &'static str = match self.outcome {
            Outcome::Abandoned => name(Code::Cancelled),
            Outcome::Grpc(code) => name(code),
            Outcome::Http(status) => {
                http = status;
                if http < 400 {
                    "HTTP_OK"
                } else if http < 500 {
                    "HTTP_CLIENT_ERROR"
                } else {
                    "HTTP_SERVER_ERROR"
                }
            }
        };
        self.metrics.request_finished(self.service, self.method, code, took);
        let (received, sent) = (self.received.bytes.load(Ordering::Relaxed), self.sent);
        let duration_ms = took.as_micros() as f64 / 1_000.0;
        let method = if self.path.is_empty() { self.method } else { self.path.as_str() };
        let _in = self.span.enter();
        if method.starts_with("/grpc.health.") {
            tracing::debug!(method, code, duration_ms, received, sent, "request");
        } else if matches!(self.outcome, Outcome::Grpc(Code::Internal | Code::Unknown | Code::DataLoss)) {
            tracing::error!(method, code, duration_ms, received, sent, "request");
        } else {
            tracing::info!(method, code, duration_ms, received, sent, "request");
        }
    }
}

/// The canonical name of a code.
pub(crate) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

struct FollowedBody<G> {
    inner: Body,
    // Released before the line is written, so that a drain never waits for a log.
    _held: G,
    log: RequestLog,
}

impl<G: Unpin> HttpBody for FollowedBody<G> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = {
            // Lines written while the answer streams carry the request's ids too.
            let _in = this.log.span.enter();
            Pin::new(&mut this.inner).poll_frame(cx)
        };
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.log.sent += data.len() as u64;
                } else if let Some(trailers) = frame.trailers_ref() {
                    this.log.note_status(trailers);
                }
            }
            Poll::Ready(Some(Err(status))) => this.log.outcome = Outcome::Grpc(status.code()),
            Poll::Ready(None) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
