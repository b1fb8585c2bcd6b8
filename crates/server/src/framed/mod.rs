//! Answers that stream messages which share most of their bytes with other streams.
//!
//! tonic's own body encodes each message into a buffer that it keeps: after a snapshot, a stream that is silent for hours
//! holds memory of the snapshot's size. A handler answers with [`framed`] instead, and the stack replaces tonic's body by
//! one that gives away what it has sent. The head of the answer remains tonic's.

mod body;
mod buffer;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use foundry_core::lock;
use foundry_proto::Frame;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::{Response, Status};

use body::FramedBody;
pub use buffer::FrameBuffer;

/// A message of a stream that encodes itself.
pub trait Framed: Send + 'static {
    /// The message as the rpc declares it.
    type Message: Send + 'static;

    /// The same message, for a server without our stack.
    fn into_message(self) -> Self::Message;

    /// Length of the encoded message, in bytes.
    fn encoded_len(&self) -> usize;

    /// Writes the encoded message, exactly [`Framed::encoded_len`] bytes.
    fn encode(self, buffer: &mut FrameBuffer);
}

impl Framed for Frame {
    type Message = Self;

    fn into_message(self) -> Self {
        self
    }

    fn encoded_len(&self) -> usize {
        prost::Message::encoded_len(self)
    }

    fn encode(self, buffer: &mut FrameBuffer) {
        self.encode_head(buffer.own());
        buffer.share(&self.body);
    }
}

type Messages<M> = BoxStream<'static, Result<M, Status>>;

/// The answer of a rpc that streams these messages. On the wire it is what tonic makes of them.
pub fn framed<M: Framed>(messages: Messages<M>) -> Response<Unframed<M>> {
    let slot = Arc::new(Slot(Mutex::new(Some(messages))));
    let mut response = Response::new(Unframed(Arc::clone(&slot)));
    response.extensions_mut().insert(Handover(slot));
    response
}

/// The messages as tonic encodes them; empty once the stack has taken them over.
pub struct Unframed<M>(Arc<Slot<M>>);

struct Slot<M>(Mutex<Option<Messages<M>>>);

impl<M: Framed> Stream for Unframed<M> {
    type Item = Result<M::Message, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *lock(&self.0.0) {
            Some(messages) => messages.poll_next_unpin(cx).map_ok(Framed::into_message),
            None => Poll::Ready(None),
        }
    }
}

/// The way of the messages from a handler to the stack, in the extensions of the answer.
#[derive(Clone)]
struct Handover(Arc<dyn TakeBody>);

trait TakeBody: Send + Sync {
    fn take(&self) -> Option<Body>;
}

impl<M: Framed> TakeBody for Slot<M> {
    fn take(&self) -> Option<Body> {
        lock(&self.0).take().map(|messages| Body::new(FramedBody::new(messages)))
    }
}

/// Gives an answer of [`framed`] its body; leaves every other answer as it is.
pub(crate) fn take_over(mut answer: http::Response<Body>) -> http::Response<Body> {
    let handover = answer.extensions_mut().remove::<Handover>();
    // What is to be compressed is encoded for one stream alone: that is tonic's.
    if !answer.headers().contains_key("grpc-encoding")
        && let Some(body) = handover.and_then(|Handover(messages)| messages.take())
    {
        *answer.body_mut() = body;
    }
    answer
}
