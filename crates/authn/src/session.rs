//! Metadata about browser sessions between auth and the gateway, and only between these two: the gateway strips such
//! headers from every request and every answer that crosses the edge.

use std::net::{IpAddr, SocketAddr};

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

/// Metadata in which the gateway reports the network address of its client; accepted only together with the gateway's own
/// token.
pub const CLIENT_ADDRESS: &str = "foundry-client-address";
/// Most characters of a user agent that are kept.
const MAX_AGENT: usize = 512;

/// What auth knows of a client that is not signed in yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Whether it is on this machine.
    pub peer: ClientPeer,
    /// Whether it is the page that the gateway serves, as the gateway reports it.
    pub is_own_page: bool,
    /// Its network address; none if it is unknown, as behind a proxy.
    pub address: Option<IpAddr>,
    /// The name that its program gives itself, shortened: a claim, and only for display.
    pub agent: String,
}

impl Client {
    /// The client of a request that passed [`crate::AuthnLayer`]; `socket` as in [`ClientPeer::of`].
    pub fn of<T>(request: &tonic::Request<T>, socket: Option<SocketAddr>) -> Self {
        let by_gateway = request.extensions().get::<Caller>().is_some_and(|c| c.is_service("gateway"));
        let said = |name| request.metadata().get(name).and_then(|v| v.to_str().ok());
        let address = match by_gateway {
            true => said(CLIENT_ADDRESS).and_then(|text| text.parse().ok()),
            false => socket.map(|at| at.ip()),
        };
        Self {
            peer: ClientPeer::of(request, socket),
            is_own_page: by_gateway && said(CLIENT_PAGE) == Some(OWN_PAGE),
            address: address.map(|ip: IpAddr| ip.to_canonical()),
            agent: said("user-agent").unwrap_or_default().chars().take(MAX_AGENT).collect(),
        }
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
    fn only_the_gateway_says_where_a_client_is() {
        let address = |caller: Option<Caller>, socket: Option<&str>| {
            let mut request = request(caller, None);
            request.metadata_mut().insert(CLIENT_ADDRESS, "192.0.2.7".parse().unwrap());
            Client::of(&request, socket.map(|at| at.parse().unwrap())).address.map(|ip| ip.to_string())
        };
        assert_eq!(
            address(Some(Caller::service("gateway")), Some("10.0.0.1:1")).as_deref(),
            Some("192.0.2.7")
        );
        assert_eq!(address(None, Some("[::ffff:10.0.0.1]:1")).as_deref(), Some("10.0.0.1"));
        assert_eq!(address(Some(Caller::service("task")), None), None);
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
