//! The outermost layer of the gateway: who sends a request, and the security headers of every answer.

use std::convert::Infallible;
use std::task::{Context, Poll};

use foundry_server::Encrypted;
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response};
use tonic::body::Body;

use crate::proxies::{Secure, TrustedProxies};

/// Of an answer that is no page of ours: whatever a browser takes it for, nothing in it runs or loads.
const INERT: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// For a year, the browser uses this host over https only.
const ONLY_HTTPS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Identifies senders and protects answers.
#[derive(Clone)]
pub(crate) struct EntranceLayer(pub(crate) TrustedProxies);

impl<S> tower::Layer<S> for EntranceLayer {
    type Service = Entrance<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Entrance { inner, proxies: self.0.clone() }
    }
}

/// The service made by [`EntranceLayer`].
#[derive(Clone)]
pub(crate) struct Entrance<S> {
    inner: S,
    proxies: TrustedProxies,
}

impl<S> tower::Service<Request<Body>> for Entrance<S>
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let encrypted = request.extensions().get::<Encrypted>().is_some();
        self.proxies.identify(&mut request, encrypted);
        let is_secure = request.extensions().get::<Secure>().is_some() && !is_localhost(&request);
        self.inner
            .call(request)
            .map_ok(move |mut answer| {
                protect(answer.headers_mut(), is_secure);
                answer
            })
            .boxed()
    }
}

/// Adds what the answer lacks.
fn protect(headers: &mut HeaderMap, is_secure: bool) {
    let is_call = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|content_type| content_type.as_bytes().starts_with(b"application/grpc"));
    if !is_call {
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(INERT);
    }
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    if is_secure {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, ONLY_HTTPS);
    }
}

/// Whether the host is the name of the user's own machine, where other programs serve plain HTTP on other ports.
fn is_localhost<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map(http::uri::Authority::host).or(host).unwrap_or_default();
    host.split(':').next().is_some_and(|name| name.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_what_an_answer_lacks_and_changes_nothing_of_a_page() {
        let mut page = HeaderMap::new();
        page.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));
        protect(&mut page, true);
        assert_eq!(page["content-security-policy"], "default-src 'self'");
        assert_eq!(page["strict-transport-security"], "max-age=31536000");

        let mut other = HeaderMap::new();
        protect(&mut other, false);
        assert_eq!(other["content-security-policy"], INERT);
        assert_eq!(
            (&other["x-content-type-options"], &other["referrer-policy"]),
            (&HeaderValue::from_static("nosniff"), &HeaderValue::from_static("no-referrer"),)
        );
        assert!(!other.contains_key("strict-transport-security"));
    }

    #[test]
    fn a_call_gets_no_policy_of_pages() {
        let mut call = HeaderMap::new();
        call.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc-web+proto"));
        protect(&mut call, false);
        assert!(!call.contains_key("content-security-policy") && call.contains_key("x-content-type-options"));
    }

    #[test]
    fn localhost_is_not_bound_to_https() {
        let at = |host: &str| is_localhost(&Request::builder().header("host", host).body(()).unwrap());
        assert!(at("localhost") && at("LOCALHOST:7100"));
        assert!(!at("foundry.example") && !at("localhost.example:7100") && !at("[::1]:7100"));
    }
}
