//! The body of an answer that streams messages.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use foundry_core::OnWake;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tonic::Status;

use super::{FrameBuffer, Framed};

/// Streams messages as tonic does, with two differences: what is sent is given away whole, so that a stream keeps no
/// buffer, and the messages are polled only after they woke the stream's task.
pub(super) struct FramedBody<M> {
    /// Dropped at their end: a connection may hold the body for a while.
    messages: Option<OnWake<BoxStream<'static, Result<M, Status>>>>,
    buffer: FrameBuffer,
    /// What the stream ends with, once all that was encoded is sent.
    end: Option<Status>,
}

impl<M: Framed> FramedBody<M> {
    pub(super) fn new(messages: BoxStream<'static, Result<M, Status>>) -> Self {
        Self { messages: Some(OnWake::new(messages)), buffer: FrameBuffer::default(), end: None }
    }

    /// Encodes what is ready, up to the length that is sent at once.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while !self.buffer.is_full()
            && let Some(messages) = &mut self.messages
            && let Poll::Ready(next) = messages.poll_next_unpin(cx)
        {
            let end = match next {
                Some(Ok(message)) => match self.buffer.push(message) {
                    Ok(()) => continue,
                    Err(status) => status,
                },
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            (self.end, self.messages) = (Some(end), None);
        }
    }
}

impl<M: Framed> HttpBody for FramedBody<M> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // Only when all is sent: a reader that is slow holds no more than one filling.
        if self.buffer.is_empty() {
            self.fill(cx);
        }
        if let Some(data) = self.buffer.pop() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match self.end.take() {
            Some(status) => Poll::Ready(Some(trailers(&status))),
            None if self.messages.is_some() => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.messages.is_none() && self.end.is_none() && self.buffer.is_empty()
    }
}

fn trailers(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut headers = HeaderMap::new();
    status.add_header(&mut headers)?;
    Ok(Frame::trailers(headers))
}
