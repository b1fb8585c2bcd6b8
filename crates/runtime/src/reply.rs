//! Reading and writing bodies.

use std::time::Duration;

use bytes::Bytes;
use foundry_sandbox::wire::Problem;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Failure, Kind};

/// Bytes read from a refused body.
const MAX_DRAINED: usize = 16 << 20;
/// Time spent reading a refused body.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Body of a response: bytes or a stream.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A body of these bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Serializing our own types cannot fail; an empty body would be an error for the client.
    let mut response = Response::new(full(serde_json::to_vec(value).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer of raw bytes.
pub(crate) fn raw(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

impl From<Failure> for Response<Body> {
    fn from(failure: Failure) -> Self {
        let problem = Problem { r#type: failure.kind.name().to_owned(), detail: failure.detail };
        json(failure.kind.status(), &problem)
    }
}

/// Reads a body of at most `max` bytes.
pub(crate) async fn read(mut body: Incoming, max: usize) -> Result<Bytes, Failure> {
    let mut whole = Vec::new();
    while let Some(bytes) = next(&mut body).await? {
        if whole.len() + bytes.len() > max {
            drop(whole);
            drain(body).await;
            return Err(Failure::new(Kind::TooLarge, format!("the body is more than {max} bytes")));
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(whole.into())
}

/// The next part of a body; none at its end.
pub(crate) async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Failure> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Failure::invalid(format!("the body cannot be read: {e}")))?;
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Reads and drops the rest of a refused body: closing the connection while the client still writes would
/// hide the response from it.
pub(crate) async fn drain(mut body: Incoming) {
    let read = async {
        let mut left = MAX_DRAINED;
        while let Ok(Some(bytes)) = next(&mut body).await {
            left = left.saturating_sub(bytes.len());
            if left == 0 {
                return;
            }
        }
    };
    // Beyond the limits the connection is closed.
    let _ = tokio::time::timeout(DRAIN_LIMIT, read).await;
}

/// Reads a body of JSON of at most `max` bytes.
pub(crate) async fn read_json<T: DeserializeOwned>(body: Incoming, max: usize) -> Result<T, Failure> {
    let bytes = read(body, max).await?;
    serde_json::from_slice(&bytes).map_err(|e| {
        // The parser's message could quote the body, which may hold a secret.
        Failure::invalid(format!("the body does not match this route, at column {}", e.column()))
    })
}
