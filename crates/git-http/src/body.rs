//! Bodies of requests, bounded before and after they are uncompressed.

use std::io::Read as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use foundry_core::{Code, Error};
use foundry_sandbox::Shares;
use http::Request;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;
use tonic::Status;

use crate::BoxError;

/// Largest body of a request, before and after it is uncompressed: about 40,000 wanted or known commits.
pub(crate) const MAX_BODY: usize = 3 << 20;
/// Bodies up to here need no permit.
const SMALL_BODY: usize = 64 << 10;
/// Large request bodies at a time, and those of one owner.
const LARGE_BODIES: usize = 8;
const LARGE_OF_ONE: usize = 4;
/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(60);

/// Bounds how many large bodies arrive at a time, so that one owner leaves room for others; small ones are not counted.
#[derive(Debug, Default)]
pub struct LargeBodies(Shares<String>);

/// Reads the body, bounded before and after it is uncompressed.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` for a larger one, `UNAVAILABLE` while many large ones arrive, `INVALID_ARGUMENT` for one that is
/// no request of git.
pub(crate) async fn read<B>(
    request: Request<B>,
    owner: &str,
    large: &LargeBodies,
    limit: usize,
) -> Result<Bytes, Status>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let compressed = is_compressed(request.headers())?;
    let arrived = arrived(request.into_body(), owner, large, limit);
    let body = tokio::time::timeout(ARRIVAL, arrived).await;
    let body = body.map_err(|_| malformed("it did not arrive within 60 s"))??;
    if compressed { uncompressed(&body, limit) } else { Ok(body) }
}

async fn arrived<B>(body: B, owner: &str, large: &LargeBodies, limit: usize) -> Result<Bytes, Status>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut pieces = std::pin::pin!(body);
    let (mut body, mut share) = (BytesMut::new(), None);
    while let Some(frame) = pieces.frame().await {
        let frame = frame.map_err(|_| malformed("it broke off"))?;
        body.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if body.len() > limit {
            return Err(too_large(limit));
        }
        if body.len() > SMALL_BODY && share.is_none() {
            let taken = large.0.take(&owner.to_owned(), LARGE_BODIES, LARGE_OF_ONE);
            share = Some(taken.ok_or_else(busy)?);
        }
    }
    Ok(body.freeze())
}

fn is_compressed(headers: &HeaderMap) -> Result<bool, Status> {
    let text = |name| headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"));
    if text(CONTENT_TYPE) != "application/x-git-upload-pack-request" {
        return Err(malformed("its content type is not application/x-git-upload-pack-request"));
    }
    match text(CONTENT_ENCODING) {
        "" | "identity" => Ok(false),
        "gzip" | "x-gzip" => Ok(true),
        _ => Err(malformed("its content encoding is neither gzip nor identity")),
    }
}

fn uncompressed(body: &[u8], limit: usize) -> Result<Bytes, Status> {
    let mut whole = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(body).take(limit as u64 + 1);
    reader.read_to_end(&mut whole).map_err(|_| malformed("it cannot be uncompressed"))?;
    if whole.len() > limit { Err(too_large(limit)) } else { Ok(whole.into()) }
}

fn malformed(why: &str) -> Status {
    let text = format!("the fetch request is malformed: {why}");
    Error::new(Code::InvalidArgument, "FETCH_MALFORMED", text).into_status()
}

fn too_large(limit: usize) -> Status {
    let text = format!("the fetch request is larger than {limit} bytes");
    Error::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", text)
        .with("limit", "fetch_request_bytes")
        .with("maximum", limit.to_string())
        .next_action("fetch fewer branches at once")
        .into_status()
}

fn busy() -> Status {
    let text = "many large fetch requests are arriving";
    Error::unavailable("FETCH_BUSY", text, std::time::Duration::from_secs(2)).into_status()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http_body_util::Full;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn posted(encoding: &'static str, body: Vec<u8>) -> Request<Full<Bytes>> {
        let request = http::Request::builder().header(CONTENT_TYPE, "application/x-git-upload-pack-request");
        request.header(CONTENT_ENCODING, encoding).body(Full::new(body.into())).unwrap()
    }

    #[tokio::test]
    async fn a_body_is_bounded_before_and_after_it_is_uncompressed() {
        let (large, limit) = (LargeBodies::default(), 200_000);
        let sent = |encoding, bytes: Vec<u8>| read(posted(encoding, bytes), "one", &large, limit);
        assert_eq!(sent("", vec![7; 200_000]).await.unwrap().len(), 200_000);
        assert_eq!(sent("gzip", gzip(&[7; 200_000])).await.unwrap(), vec![7; 200_000]);
        for (encoding, bytes) in
            [("", vec![7; 200_001]), ("gzip", gzip(&[7; 200_001])), ("gzip", gzip(&[0; 9_000_000]))]
        {
            assert_eq!(sent(encoding, bytes).await.unwrap_err().code(), tonic::Code::ResourceExhausted);
        }
        for (encoding, bytes) in [("gzip", b"no gzip".to_vec()), ("br", Vec::new())] {
            assert_eq!(sent(encoding, bytes).await.unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        let _taken: Vec<_> =
            (0..LARGE_OF_ONE).map(|_| large.0.take(&"one".to_owned(), 8, 4).unwrap()).collect();
        assert_eq!(sent("", vec![7; 100_000]).await.unwrap_err().code(), tonic::Code::Unavailable);
        assert!(sent("", vec![7; 1_000]).await.is_ok());
        let other = posted("", vec![7; 100_000]);
        assert!(read(other, "other", &large, limit).await.is_ok(), "one owner leaves room for others");
    }
}
