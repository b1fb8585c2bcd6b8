//! What is read from a request of git: who asks, and the body.

use std::io::Read as _;

use axum::extract::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use foundry_core::{Code, Error};
use foundry_server::PeerAddress;
use futures::StreamExt as _;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};

/// Largest body of a request, before and after it is uncompressed: about 40,000 wanted or known commits.
pub(super) const MAX_BODY: usize = 3 << 20;
/// Bodies up to here need no permit.
const SMALL_BODY: usize = 64 << 10;
/// Longest `Git-Protocol` header that is passed on.
const MAX_PROTOCOL: usize = 256;

/// Who asks, and in which version of git's protocol.
pub(super) struct Asker {
    authorization: MetadataValue<Ascii>,
    peer: Option<PeerAddress>,
    pub(super) protocol: String,
}

impl Asker {
    /// By the password of the request, which is a token; the user name is not used.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without one.
    pub(super) fn of(request: &Request) -> Result<Self, Status> {
        let headers = request.headers();
        let token = password(headers).ok_or_else(no_token)?;
        let mut authorization: MetadataValue<Ascii> =
            format!("Bearer {token}").parse().map_err(|_| no_token())?;
        authorization.set_sensitive(true);
        let protocol = headers.get("git-protocol").and_then(|value| value.to_str().ok());
        let protocol = protocol.filter(|text| text.len() <= MAX_PROTOCOL).unwrap_or_default().to_owned();
        Ok(Self { authorization, peer: request.extensions().get::<PeerAddress>().copied(), protocol })
    }

    /// A call of the mesh by this caller.
    pub(super) fn asking<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        request
    }

    /// Whether it speaks protocol 2.
    pub(super) fn is_v2(&self) -> bool {
        self.protocol.split(':').any(|part| part == "version=2")
    }
}

fn password(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (_, password) = decoded.split_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}

fn no_token() -> Status {
    let text = "a token is needed as the password, with any user name";
    Error::new(Code::Unauthenticated, "TOKEN_MISSING", text).into_status()
}

/// Reads the body, bounded before and after it is uncompressed.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` for a larger one, `UNAVAILABLE` while many large ones arrive, `INVALID_ARGUMENT` for one that is
/// no request of git.
pub(super) async fn body(request: Request, large: &Semaphore, limit: usize) -> Result<Bytes, Status> {
    let compressed = is_compressed(request.headers())?;
    let mut pieces = request.into_body().into_data_stream();
    let (mut body, mut permit) = (BytesMut::new(), None);
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece.map_err(|_| malformed("it broke off"))?);
        if body.len() > limit {
            return Err(too_large(limit));
        }
        if body.len() > SMALL_BODY && permit.is_none() {
            permit = Some(large.try_acquire().map_err(|_| busy())?);
        }
    }
    if compressed { uncompressed(&body, limit) } else { Ok(body.freeze()) }
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

    use super::*;

    fn with(value: &str) -> Option<String> {
        let value = http::HeaderValue::from_str(value).unwrap();
        password(&HeaderMap::from_iter([(AUTHORIZATION, value)]))
    }

    #[test]
    fn the_password_is_the_token_whatever_the_user() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(with(&basic("anybody:fpat_1")), Some("fpat_1".to_owned()));
        assert_eq!(with(&basic(":a:b")), Some("a:b".to_owned()));
        assert_eq!(with("bearer fpat_1"), Some("fpat_1".to_owned()));
        for bad in [basic("fpat_1:"), basic("fpat_1"), "Basic ???".to_owned(), "Digest x".to_owned()] {
            assert_eq!(with(&bad), None, "{bad}");
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn posted(encoding: &'static str, body: Vec<u8>) -> Request {
        let request = http::Request::builder().header(CONTENT_TYPE, "application/x-git-upload-pack-request");
        request.header(CONTENT_ENCODING, encoding).body(axum::body::Body::from(body)).unwrap()
    }

    #[tokio::test]
    async fn a_body_is_bounded_before_and_after_it_is_uncompressed() {
        let (large, limit) = (Semaphore::new(1), 200_000);
        let read = |encoding, bytes: Vec<u8>| body(posted(encoding, bytes), &large, limit);
        assert_eq!(read("", vec![7; 200_000]).await.unwrap().len(), 200_000);
        assert_eq!(read("gzip", gzip(&[7; 200_000])).await.unwrap(), vec![7; 200_000]);
        for (encoding, bytes) in
            [("", vec![7; 200_001]), ("gzip", gzip(&[7; 200_001])), ("gzip", gzip(&[0; 9_000_000]))]
        {
            assert_eq!(read(encoding, bytes).await.unwrap_err().code(), tonic::Code::ResourceExhausted);
        }
        for (encoding, bytes) in [("gzip", b"no gzip".to_vec()), ("br", Vec::new())] {
            assert_eq!(read(encoding, bytes).await.unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        let _taken = large.try_acquire().unwrap();
        assert_eq!(read("", vec![7; 100_000]).await.unwrap_err().code(), tonic::Code::Unavailable);
        assert!(read("", vec![7; 1_000]).await.is_ok());
    }
}
