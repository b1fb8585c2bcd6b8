//! A service in another process: one channel for unary calls, others for streams.

use std::error::Error as StdError;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use foundry_core::Error;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tonic::TimeoutExpired;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::{BoxError, Service, ServiceExt as _};

use super::lanes::{Lanes, Place};
use crate::methods;
use crate::stack::deadline;
use crate::tls::Connector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Three unread streams must not stall the rest: small windows for streams in a large one for the connection.
pub(crate) const STREAM_WINDOW: u32 = 64 << 10;
pub(crate) const CONNECTION_WINDOW: u32 = 16 << 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens another channel, which connects when it is first used.
pub(super) type Connect = Arc<dyn Fn() -> Channel + Send + Sync>;

/// Kept apart because after a GOAWAY with a stream open, the next unary call on that channel fails.
#[derive(Clone)]
pub(super) struct Remote {
    unary: Channel,
    streams: Lanes,
}

impl Remote {
    /// Over TLS if there is a connector for it; the address must say the same.
    pub(super) fn connect_lazily(url: &str, connector: Option<Connector>) -> Result<Self, Error> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(|e| Error::invalid_field("upstream", format!("`{url}` is not a URL: {e}")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            // Between our own services: by default, the shared channel is closed after some hundred cancelled streams.
            .http2_max_local_error_reset_streams(None);
        let scheme = if connector.is_some() { "https" } else { "http" };
        if endpoint.uri().scheme_str() != Some(scheme) {
            let text = format!("`{url}` must begin with {scheme}://, by the setting `mesh.tls`");
            return Err(Error::invalid_field("upstream", text));
        }
        let connect: Connect = Arc::new(move || match &connector {
            Some(connector) => endpoint.connect_with_connector_lazy(connector.clone()),
            None => endpoint.connect_lazy(),
        });
        Ok(Self { unary: connect(), streams: Lanes::new(connect) })
    }
}

impl Service<Request<Body>> for Remote {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Which channel must be ready depends on the request.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let kind = methods::kind(request.uri().path());
        let (channel, place) = if kind.is_stream() {
            let (channel, place) = self.streams.enter();
            (channel, Some(place))
        } else {
            (self.unary.clone(), None)
        };
        if kind.client_streaming {
            return Box::pin(async move { Ok(held(channel.oneshot(request).await?, place)) });
        }
        let asked = deadline::asked(request.headers());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            // A single encoded message, kept so that it can be sent again.
            let message = body.collect().await?.to_bytes();
            let again = || Request::from_parts(parts.clone(), Body::new(Full::new(message.clone())));
            let answer = match channel.clone().oneshot(again()).await {
                Err(error) if was_not_sent(&error) => channel.oneshot(again()).await,
                answer => answer,
            };
            match (answer, asked) {
                // The channel applies the caller's deadline, too, but reports it as `CANCELLED`.
                (Err(error), Some(asked)) if chain(&error).any(|e| e.is::<TimeoutExpired>()) => {
                    Ok(deadline::exceeded(asked).into_status().into_http())
                }
                (answer, _) => Ok(held(answer?, place)),
            }
        })
    }
}

/// Keeps a stream's place until its answer ends.
fn held(answer: Response<Body>, place: Option<Place>) -> Response<Body> {
    let Some(place) = place else { return answer };
    answer.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &place;
            frame
        }))
    })
}

/// An error and its causes.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// Whether the server cannot have seen the request: only then may it be sent again.
fn was_not_sent(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|error| {
        // Still in the queue when the connection was lost.
        let queued = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        let refused = error.downcast_ref::<h2::Error>().is_some_and(|error| {
            let beyond_goaway =
                error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
            beyond_goaway || error.reason() == Some(h2::Reason::REFUSED_STREAM)
        });
        queued || refused
    })
}
