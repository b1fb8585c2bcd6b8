//! The shape, number and size limit of request messages, read from each message's five-byte head before the message is
//! buffered, and the budget for messages that have not arrived completely.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use foundry_core::{Code, Error};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

use super::log::Received;
use super::seat::Seat;

const HEAD: usize = 5;
/// Bytes of each message that the budget does not count, so that a call with a small one is never refused for the large
/// ones of others.
const UNBUDGETED: usize = 64 << 10;

/// What a request body is measured by.
pub(crate) struct Measures {
    /// Most bytes of one message.
    pub(crate) limit: usize,
    /// Whether the method takes one message.
    pub(crate) is_single: bool,
    /// Counts the bytes of the body.
    pub(crate) received: Arc<Received>,
    /// The seat of the request, which decides on the budget.
    pub(crate) seat: Seat,
}

/// A request body that fails with a typed status at the head of a message that is oversize or one too many, and where
/// the budget ends.
pub(crate) struct MeasuredBody {
    inner: Body,
    measures: Measures,
    head: [u8; HEAD],
    head_len: usize,
    messages: usize,
    /// Of the current message.
    message_len: usize,
    message_left: usize,
    /// The part of the budget that the body holds.
    held: Option<OwnedSemaphorePermit>,
}

impl MeasuredBody {
    pub(crate) fn new(inner: Body, measures: Measures) -> Self {
        Self {
            inner,
            measures,
            head: [0; HEAD],
            head_len: 0,
            messages: 0,
            message_len: 0,
            message_left: 0,
            held: None,
        }
    }

    fn is_between_messages(&self) -> bool {
        self.head_len == 0 && self.message_left == 0
    }

    /// Follows message boundaries through one piece of the body.
    fn follow(&mut self, mut data: &[u8]) -> Result<(), Error> {
        while !data.is_empty() {
            if self.message_left > 0 {
                let step = self.message_left.min(data.len());
                self.message_left -= step;
                data.advance(step);
                self.budget()?;
                continue;
            }
            let step = (HEAD - self.head_len).min(data.len());
            self.head[self.head_len..self.head_len + step].copy_from_slice(&data[..step]);
            self.head_len += step;
            data.advance(step);
            if self.head_len == HEAD {
                let [compressed, length @ ..] = self.head;
                if compressed > 1 {
                    return Err(malformed("it is not a gRPC message"));
                }
                let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                if length > self.measures.limit {
                    return Err(too_large(length, self.measures.limit));
                }
                self.messages += 1;
                if self.measures.is_single && self.messages > 1 {
                    return Err(malformed("the method takes one message, and there are more"));
                }
                (self.message_len, self.message_left) = (length, length);
                self.head_len = 0;
            }
        }
        Ok(())
    }

    /// Takes as much of the budget as the message has grown, and gives it back where a handler takes the message.
    fn budget(&mut self) -> Result<(), Error> {
        if self.message_left == 0 && !self.measures.is_single {
            self.held = None;
            return Ok(());
        }
        let arrived = self.message_len - self.message_left;
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = arrived.saturating_sub(UNBUDGETED + held);
        if wanted == 0 {
            return Ok(());
        }
        let more = self.measures.seat.take_bytes(wanted)?;
        match (&mut self.held, more) {
            (Some(held), Some(more)) => held.merge(more),
            (held, more) => *held = more,
        }
        Ok(())
    }
}

fn malformed(what: &str) -> Error {
    Error::new(Code::InvalidArgument, "MALFORMED_MESSAGE", format!("the request's body is malformed: {what}"))
}

fn too_large(size: usize, limit: usize) -> Error {
    Error::new(
        Code::ResourceExhausted,
        "MESSAGE_TOO_LARGE",
        format!("the request message is {size} bytes; the limit is {limit}"),
    )
    .with("limit", "message_bytes")
    .with("scope", "request")
    .with("current", size.to_string())
    .with("maximum", limit.to_string())
    .next_action("send a smaller message")
}

impl HttpBody for MeasuredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            None if !self.is_between_messages() => {
                // Reported once: a later poll gets the plain end.
                (self.head_len, self.message_left) = (0, 0);
                self.held = None;
                return Poll::Ready(Some(Err(malformed("it ends in the middle of a message").into_status())));
            }
            end => {
                // An error of the connection has a source; one about what it carried has none.
                if matches!(&end, Some(Err(status)) if status.source().is_some()) {
                    self.measures.received.broke_off.store(true, Ordering::Relaxed);
                }
                self.held = None;
                return Poll::Ready(end);
            }
        };
        if let Some(data) = frame.data_ref() {
            self.measures.received.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            let data = data.clone();
            if let Err(error) = self.follow(&data) {
                return Poll::Ready(Some(Err(error.into_status())));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && self.is_between_messages()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(size: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(size).unwrap().to_be_bytes());
        bytes.extend(vec![7; size]);
        bytes
    }

    fn measured(inner: Body, is_single: bool) -> MeasuredBody {
        let (received, seat) = (Arc::default(), Seat::default());
        MeasuredBody::new(inner, Measures { limit: 100, is_single, received, seat })
    }

    fn body() -> MeasuredBody {
        measured(Body::empty(), false)
    }

    #[test]
    fn measures_each_message_whatever_the_pieces() {
        let wire = [message(100), message(0), message(3), message(100)].concat();
        for piece in [1, 2, 5, 6, 7, 104, wire.len()] {
            let mut body = body();
            for data in wire.chunks(piece) {
                body.follow(data).unwrap();
            }
            assert_eq!((body.message_left, body.head_len), (0, 0), "pieces of {piece}");
        }
    }

    #[test]
    fn refuses_what_does_not_start_as_a_message() {
        let error = body().follow(b"hello").unwrap_err();
        assert_eq!((error.reason(), error.code()), ("MALFORMED_MESSAGE", Code::InvalidArgument));
    }

    #[test]
    fn refuses_an_end_within_a_message_once() {
        use futures::FutureExt as _;
        use http_body_util::BodyExt as _;

        let mut message = message(9);
        message.truncate(7);
        let inner = Body::new(http_body_util::Full::new(Bytes::from(message)));
        let mut body = measured(inner, true);
        assert!(body.frame().now_or_never().unwrap().unwrap().is_ok());
        assert!(!body.is_end_stream());
        let status = body.frame().now_or_never().unwrap().unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(body.frame().now_or_never().unwrap().is_none());
    }

    #[test]
    fn refuses_at_the_head_of_an_oversize_message_even_behind_a_small_one() {
        let mut body = body();
        body.follow(&message(4)).unwrap();
        let error = body.follow(&message(101)[..HEAD]).unwrap_err();
        assert_eq!((error.reason(), error.code()), ("MESSAGE_TOO_LARGE", Code::ResourceExhausted));
    }

    #[test]
    fn refuses_a_second_message_where_the_method_takes_one() {
        let mut single = measured(Body::empty(), true);
        single.follow(&message(4)).unwrap();
        let error = single.follow(&message(0)).unwrap_err();
        assert_eq!((error.reason(), error.code()), ("MALFORMED_MESSAGE", Code::InvalidArgument));
    }
}
