//! Sessions of the page in the browser. Their secret is in a cookie that no script can read. The cookie alone is
//! worth nothing: it counts only in a request that the page's own origin sent and that carries the session's key,
//! which the page keeps in its origin's storage (ADR 0009).

mod around;
mod cookie;
mod key;
mod rules;

use std::sync::Arc;

use foundry_authn::{
    CLIENT_PAGE, OWN_PAGE, SESSION_CLEAR, ServiceIdentity, SessionCookie, TokenError, bearer,
};
use foundry_core::{Clock, Code, Env, Error, Result};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use http::{Request, Response};
use tonic::body::Body;

pub(crate) use around::SessionService;

use crate::config::Config;
use key::SessionKeys;
pub(crate) use rules::SentContentType;
use rules::{Page, PageRules};

/// Header with the session's key: in requests of the page, and in the response to its sign-in.
pub(crate) const SESSION_KEY: HeaderName = HeaderName::from_static("x-foundry-session-key");

/// Prefix of the secret of a page session. Inside the gateway it is the bearer token that is exchanged; as a bearer
/// token from outside it is refused.
pub(crate) const SECRET: &str = "fdc_";

/// Turns cookies into bearer tokens and back; cloning shares it.
#[derive(Clone)]
pub(crate) struct Sessions(Arc<Inner>);

struct Inner {
    rules: PageRules,
    keys: SessionKeys,
    clock: Arc<dyn Clock>,
}

/// The page that sent a request; none when it does not matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct CookieAuth {
    page: Option<Page>,
    /// Whether its session cookie was accepted in place of a token.
    by_cookie: bool,
}

/// In the extensions of a request to an open method that the gateway's own page has sent.
#[derive(Clone, Copy)]
pub(crate) struct OwnPage;

impl OwnPage {
    /// The header by which the service learns this.
    pub(crate) fn header(self) -> (HeaderName, HeaderValue) {
        (HeaderName::from_static(CLIENT_PAGE), HeaderValue::from_static(OWN_PAGE))
    }
}

/// What auth's response does to the session of the page.
#[derive(Clone)]
pub(crate) enum SessionDirective {
    /// Set the cookie of a session that was opened.
    Set(SessionCookie),
    /// Clear the cookie of the session that ended.
    Clear,
}

impl SessionDirective {
    /// Reads it from the headers of auth's response, which are not passed on.
    pub(crate) fn read(answer: &HeaderMap) -> Option<Self> {
        let set = SessionCookie::read(answer).map(Self::Set);
        set.or_else(|| answer.contains_key(SESSION_CLEAR).then_some(Self::Clear))
    }
}

impl Sessions {
    /// With the configuration and the gateway's own secret.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an origin that is not valid.
    pub(crate) fn new(config: &Config, identity: &ServiceIdentity, env: &Env) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            rules: PageRules::new(config)?,
            keys: SessionKeys::new(identity.derived_secret("session keys of pages")),
            clock: env.clock.clone(),
        })))
    }

    /// For a request to an open method: cookies and tokens do not matter.
    fn authenticate_open(&self, request: &mut Request<Body>) -> CookieAuth {
        let page = self.0.rules.judge(request).ok();
        if page.is_some() {
            request.extensions_mut().insert(OwnPage);
        }
        CookieAuth { page, by_cookie: false }
    }

    /// Checks the request's session cookie and turns it into the request's bearer token. A bearer token in the
    /// request has precedence.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for a cookie in a request that the page did not send, `UNAUTHENTICATED` for one without
    /// the session's key, and for the secret of a page session sent as a bearer token.
    fn authenticate(&self, request: &mut Request<Body>) -> Result<CookieAuth> {
        let Inner { rules, keys, .. } = &*self.0;
        let headers = request.headers();
        if headers.contains_key(AUTHORIZATION) {
            // Read like admission does, which refuses a header that cannot be read.
            return match bearer(headers) {
                Ok(token) if token.starts_with(SECRET) => {
                    Err(TokenError::Malformed("a page session cannot be used as a bearer token").into())
                }
                _ => Ok(CookieAuth::default()),
            };
        }
        if !cookie::is_present(headers) {
            return Ok(CookieAuth::default());
        }
        let page = rules.judge(request).map_err(rules::Broken::into_error)?;
        let secrets = cookie::secrets(headers, &page);
        if secrets.is_empty() {
            return Ok(CookieAuth::default());
        }
        let shown = headers.get(SESSION_KEY);
        let secret = secrets.into_iter().find(|s| shown.is_some_and(|k| keys.is_of(k.as_bytes(), s)));
        let secret = secret.ok_or_else(wrong_key)?;
        let mut value = HeaderValue::try_from(format!("Bearer {secret}")).map_err(Error::internal)?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        Ok(CookieAuth { page: Some(page), by_cookie: true })
    }

    /// Sets or clears the cookie in the response, as auth asked for.
    fn apply_to_response(&self, cookie_auth: &CookieAuth, mut answer: Response<Body>) -> Response<Body> {
        let (Some(directive), Some(page)) =
            (answer.extensions_mut().remove::<SessionDirective>(), &cookie_auth.page)
        else {
            return answer;
        };
        let headers = answer.headers_mut();
        match directive {
            SessionDirective::Set(session) => {
                let left = session.expires_at.since(self.0.clock.now());
                let cookie = cookie::set(page, &session.token, left);
                let key = HeaderValue::try_from(self.0.keys.of(&session.token));
                if let (Some(cookie), Ok(mut key)) = (cookie, key) {
                    key.set_sensitive(true);
                    headers.append(SET_COOKIE, cookie);
                    headers.insert(SESSION_KEY, key);
                }
            }
            SessionDirective::Clear if cookie_auth.by_cookie => {
                headers.extend(cookie::clear(page).map(|cookie| (SET_COOKIE, cookie)));
            }
            SessionDirective::Clear => {}
        }
        answer
    }
}

fn wrong_key() -> Error {
    let text = format!(
        "the request has a session cookie, but its key in `{SESSION_KEY}` is missing or does not match"
    );
    Error::new(Code::Unauthenticated, "SESSION_KEY_WRONG", text).next_action("sign in again on this page")
}
