//! An MCP server's answer on its way to the agent, piece by piece as it comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::endpoint::Rewriting;
use crate::BoxError;
use crate::silence::Silence;

/// The body of an answer. Dropping it ends the call to the server.
pub(super) struct Stream {
    upstream: reqwest::Body,
    rewriting: Option<Rewriting>,
    /// Ends an answer that has stalled; `None` where a server may be silent for ever.
    silence: Option<Silence>,
    /// Completes once the session may no longer use the server, or the server was reconfigured.
    over: BoxFuture<'static, ()>,
    ended: bool,
}

impl Stream {
    pub(super) fn new(
        upstream: reqwest::Body,
        rewriting: Option<Rewriting>,
        silence: Option<Silence>,
        over: BoxFuture<'static, ()>,
    ) -> Self {
        Self { upstream, rewriting, silence, over, ended: false }
    }

    fn cut(&mut self, why: BoxError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.ended = true;
        Poll::Ready(Some(Err(why)))
    }
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if this.over.as_mut().poll(cx).is_ready() {
            return this.cut("the session may no longer use this MCP server, or it was changed".into());
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut this.upstream).poll_frame(cx) else {
                let Some(silence) = &mut this.silence else { return Poll::Pending };
                ready!(silence.poll(cx));
                let words = silence.words();
                return this.cut(words.into());
            };
            if let Some(silence) = &mut this.silence {
                silence.broken();
            }
            let data = match frame {
                // Trailers belong to the connection that ends here.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
                Some(Err(error)) => return this.cut(error.without_url().into()),
                None => {
                    this.ended = true;
                    return Poll::Ready(None);
                }
            };
            let data = match &mut this.rewriting {
                Some(rewriting) => rewriting.pass(data),
                None => Ok(data),
            };
            match data {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(why) => return this.cut(why),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
