//! Who sends a request of git.

use axum::extract::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foundry_core::{Code, Error};
use foundry_server::PeerAddress;
use http::header::{AUTHORIZATION, HeaderMap};
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};

/// The token of a request of git, and where it came from.
pub(super) struct Asker {
    authorization: MetadataValue<Ascii>,
    peer: Option<PeerAddress>,
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
        Ok(Self { authorization, peer: request.extensions().get::<PeerAddress>().copied() })
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

#[cfg(test)]
mod tests {
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
}
