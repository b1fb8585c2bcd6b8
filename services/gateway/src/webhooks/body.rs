//! The body of a delivery: bounded in size and time.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use foundry_sandbox::Shares;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http_body_util::BodyExt as _;

use super::{busy, plain, refusal};

/// Largest body. GitHub names at most 2,048 commits of a push, which is about 3 MB where each changes a few files; what is
/// larger is found by polling.
const MAX_BODY: usize = 3 << 20;
/// Bodies up to here need no permit.
const SMALL_BODY: usize = 64 << 10;
/// Large bodies at a time, and those from one address.
const LARGE_BODIES: usize = 16;
const LARGE_OF_ONE: usize = 8;
/// How long a body may take to arrive.
pub(super) const ARRIVAL: Duration = Duration::from_secs(10);

/// Bounds how many large bodies arrive at a time; small ones are not counted.
#[derive(Debug, Default)]
pub(super) struct LargeBodies(Shares<Option<IpAddr>>);

/// Refuses a body that is announced as too large, before any of it is read.
pub(super) fn check_length(headers: &HeaderMap) -> Result<(), Box<Response>> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY as u64) { Err(too_large()) } else { Ok(()) }
}

/// Reads the body, if it arrives in time.
pub(super) async fn read(
    request: Request,
    owner: Option<IpAddr>,
    large: &LargeBodies,
    limit: Duration,
) -> Result<Bytes, Box<Response>> {
    let arrived = arrived(request, owner, large);
    tokio::time::timeout(limit, arrived).await.map_err(|_| {
        plain(StatusCode::REQUEST_TIMEOUT, "DEADLINE_EXCEEDED", "the body did not arrive within 10 s")
    })?
}

async fn arrived(
    request: Request,
    owner: Option<IpAddr>,
    large: &LargeBodies,
) -> Result<Bytes, Box<Response>> {
    let mut pieces = request.into_body();
    let (mut body, mut share) = (BytesMut::new(), None);
    while let Some(frame) = pieces.frame().await {
        let frame = frame.map_err(|_| {
            plain(StatusCode::BAD_REQUEST, "WEBHOOK_MALFORMED", "the body of the delivery broke off")
        })?;
        body.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if body.len() > MAX_BODY {
            return Err(too_large());
        }
        if body.len() > SMALL_BODY && share.is_none() {
            let taken = large.0.take(&owner, LARGE_BODIES, LARGE_OF_ONE);
            share = Some(taken.ok_or_else(|| refusal(&busy().into_status()))?);
        }
    }
    Ok(body.freeze())
}

fn too_large() -> Box<Response> {
    let text = format!("the delivery is larger than {MAX_BODY} bytes; polling finds what it announces");
    plain(StatusCode::PAYLOAD_TOO_LARGE, "MESSAGE_TOO_LARGE", &text)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures::StreamExt as _;
    use futures::stream;

    use super::*;

    fn beginning(bytes: usize) -> Request {
        let begun = stream::once(std::future::ready(Ok::<_, std::io::Error>(Bytes::from(vec![b' '; bytes]))));
        Request::new(Body::from_stream(begun.chain(stream::pending())))
    }

    #[tokio::test]
    async fn a_body_that_does_not_arrive_is_given_up() {
        let late = read(beginning(1), None, &LargeBodies::default(), Duration::ZERO).await.unwrap_err();
        assert_eq!(late.status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn large_bodies_from_one_address_leave_room_for_those_of_others_and_small_ones_need_none() {
        let (large, one) = (LargeBodies::default(), Some(IpAddr::from([192, 0, 2, 1])));
        let held: Vec<_> =
            (0..LARGE_OF_ONE).map(|_| large.0.take(&one, LARGE_BODIES, LARGE_OF_ONE).unwrap()).collect();
        let sent = |bytes, owner| {
            let request = Request::new(Body::from(vec![b' '; bytes]));
            read(request, owner, &large, ARRIVAL)
        };
        assert_eq!(sent(100_000, one).await.unwrap_err().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(sent(1_000, one).await.unwrap().len(), 1_000);
        let other = Some(IpAddr::from([192, 0, 2, 2]));
        assert_eq!(sent(100_000, other).await.unwrap().len(), 100_000);
        drop(held);
        assert_eq!(sent(100_000, one).await.unwrap().len(), 100_000);
    }
}
