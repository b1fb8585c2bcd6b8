//! Metadata about browser sessions between auth and the gateway, and only between these two: the gateway strips such
//! headers from every request and every answer that crosses the edge.

use std::net::SocketAddr;

use foundry_core::{Error, Result, Timestamp};
use http::{HeaderMap, HeaderValue};
use tonic::metadata::MetadataMap;

use crate::{Caller, ClientPeer};

/// Metadata in which the gateway marks its client as the page that it serves itself; accepted only together with the
/// gateway's own token.
pub const CLIENT_PAGE: &str = "foundry-client-page";
/// The value of [`CLIENT_PAGE`].
pub const OWN_PAGE: &str = "own";
/// Metadata by which auth asks the gateway to set the cookie of a session.
pub const SESSION_SET: &str = "foundry-session-set";
/// Metadata by which auth asks the gateway to clear the cookie of the session that ended.
pub const SESSION_CLEAR: &str = "foundry-session-clear";

/// What auth knows of a client that is not signed in yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Whether it is on this machine.
    pub peer: ClientPeer,
    /// Whether it is the page that the gateway serves, as the gateway reports it.
    pub is_own_page: bool,
}

impl Client {
    /// The client of a request that passed [`crate::AuthnLayer`]; `socket` as in [`ClientPeer::of`].
    pub fn of<T>(request: &tonic::Request<T>, socket: Option<SocketAddr>) -> Self {
        let by_gateway = request.extensions().get::<Caller>().is_some_and(|c| c.is_service("gateway"));
        let page = request.metadata().get(CLIENT_PAGE).and_then(|v| v.to_str().ok());
        Self { peer: ClientPeer::of(request, socket), is_own_page: by_gateway && page == Some(OWN_PAGE) }
    }
}

/// The secret of a session on its way into a cookie.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionCookie {
    /// The opaque token of the session.
    pub token: String,
    /// When the session expires.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for SessionCookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionCookie").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl SessionCookie {
    /// Asks the gateway to set this cookie.
    ///
    /// # Errors
    /// `INTERNAL` when the token is no header value.
    pub fn set(&self, answer: &mut MetadataMap) -> Result<()> {
        let text = format!("{} {}", self.expires_at.as_micros(), self.token);
        let mut value = tonic::metadata::MetadataValue::try_from(text).map_err(Error::internal)?;
        value.set_sensitive(true);
        answer.insert(SESSION_SET, value);
        Ok(())
    }

    /// Asks the gateway to clear the cookie of the session that ended.
    pub fn clear(answer: &mut MetadataMap) {
        answer.insert(SESSION_CLEAR, tonic::metadata::MetadataValue::from_static("1"));
    }

    /// The cookie that auth asked the gateway to set, if any.
    pub fn read(answer: &HeaderMap) -> Option<Self> {
        let text = answer.get(SESSION_SET).map(HeaderValue::to_str)?.ok()?;
        let (at, token) = text.split_once(' ')?;
        Some(Self { token: token.to_owned(), expires_at: Timestamp::from_micros(at.parse().ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(caller: Option<Caller>, page: Option<&'static str>) -> tonic::Request<()> {
        let mut request = tonic::Request::new(());
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        if let Some(page) = page {
            request.metadata_mut().insert(CLIENT_PAGE, page.parse().unwrap());
        }
        request
    }

    #[test]
    fn only_the_gateway_says_that_a_client_is_its_page() {
        let own = |caller, page| Client::of(&request(caller, page), None).is_own_page;
        assert!(own(Some(Caller::service("gateway")), Some(OWN_PAGE)));
        assert!(!own(Some(Caller::service("gateway")), None));
        assert!(!own(Some(Caller::service("gateway")), Some("other")));
        assert!(!own(Some(Caller::service("task")), Some(OWN_PAGE)));
        assert!(!own(None, Some(OWN_PAGE)));
    }

    #[test]
    fn a_cookie_crosses_whole_and_anything_else_is_none() {
        let cookie = SessionCookie { token: "fds_abc".into(), expires_at: Timestamp::from_micros(77) };
        let mut metadata = MetadataMap::new();
        cookie.set(&mut metadata).unwrap();
        assert!(metadata.get(SESSION_SET).unwrap().is_sensitive());
        assert!(SessionCookie::read(&metadata.into_headers()) == Some(cookie));
        for bad in ["", "fds_abc", "x fds_abc"] {
            let headers = HeaderMap::from_iter([(SESSION_SET.parse().unwrap(), bad.parse().unwrap())]);
            assert!(SessionCookie::read(&headers).is_none(), "{bad}");
        }
    }
}
