//! The body of a response on its way to the caller. It always ends with a status: the service's own, or one that
//! explains why that is missing.

use std::error::Error as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use foundry_core::Error;
use foundry_edge::draining;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::caller_limits::Permit;
use crate::cut::Place;
use crate::forward::{Chain, RequestFailure};
use crate::headers;

/// The body of a response.
pub(crate) struct AnswerBody {
    inner: Body,
    service: &'static str,
    /// Whether the status was in the head, or has been sent.
    complete: bool,
    cut: Option<BoxFuture<'static, ()>>,
    failure: RequestFailure,
    _permit: Permit,
}

impl AnswerBody {
    pub(crate) fn new(
        inner: Body,
        complete: bool,
        service: &'static str,
        cut: Option<Place>,
        permit: Permit,
        failure: RequestFailure,
    ) -> Self {
        let cut = cut.map(|place| place.cut().boxed());
        Self { inner, service, complete, cut, failure, _permit: permit }
    }

    /// Ends the response with this status in place of the service's.
    fn end(&mut self, status: Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.complete = true;
        // Dropping the body cancels the call at the service.
        self.inner = Body::empty();
        let mut trailers = HeaderMap::new();
        let status = self.failure.get().cloned().unwrap_or(status);
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready())
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.complete {
            return Pin::new(&mut this.inner).poll_frame(cx);
        }
        if this.is_cut(cx) {
            return this.end(draining().into_status());
        }
        match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    this.complete = true;
                    headers::clean_answer(trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // A status by the service itself, in this process.
            Some(Err(status)) if status.source().is_none() => this.end(status),
            Some(Err(status)) => {
                tracing::warn!(upstream = this.service, error = %Chain(&status), "a response was interrupted");
                this.end(broken(this.service).into_status())
            }
            None => this.end(broken(this.service).into_status()),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.complete && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.complete { self.inner.size_hint() } else { SizeHint::default() }
    }
}

fn broken(service: &'static str) -> Error {
    let text = format!("the {service} service disconnected before its response was complete");
    Error::unavailable("UPSTREAM_BROKE_OFF", text, Duration::from_millis(250))
        .with("service", service)
        .next_action("retry commands with the same request_id; reopen watches with the last resume token")
}
