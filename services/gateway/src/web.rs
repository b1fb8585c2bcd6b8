//! Plain HTTP and browsers on the gateway's port: CORS, content types, the workbench page, two small text pages.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::routing::get;
use axum::{Json, Router};
use foundry_core::{Error, Result};
use foundry_server::{Health, methods};
use futures::future::Either;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use tonic::body::Body;
use tower::layer::util::Stack;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::Config;
use crate::entrance::EntranceLayer;
use crate::page::Page;
use crate::proxies::TrustedProxies;
use crate::session::SentContentType;

/// In the configuration: any page of this machine.
const LOOPBACK: &str = "loopback";
/// How long a browser may cache the result of a preflight request.
const PREFLIGHT_AGE: Duration = Duration::from_secs(2 * 3_600);

/// The layers of [`edge_layer`].
type EdgeLayer = Stack<Stack<ContentTypeLayer, CorsLayer>, EntranceLayer>;

/// The headers that a page may send and read.
const SENT: [&str; 9] = [
    "authorization",
    "content-type",
    "grpc-timeout",
    "x-grpc-web",
    "x-user-agent",
    "x-request-id",
    "traceparent",
    "grpc-accept-encoding",
    "grpc-encoding",
];
const SEEN: [&str; 5] =
    ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id", "grpc-encoding"];

/// The layers around everything on the port, from outside: the entrance, CORS, content types.
///
/// # Errors
/// `INVALID_ARGUMENT` for an origin or a network of proxies that is not valid.
pub(crate) fn edge_layer(config: &Config) -> Result<EdgeLayer> {
    let entrance = EntranceLayer(TrustedProxies::new(&config.trusted_proxies)?);
    Ok(Stack::new(Stack::new(ContentTypeLayer, cors(&config.allowed_origins)?), entrance))
}

fn cors(origins: &[String]) -> Result<CorsLayer> {
    let exact = exact_origins(origins)?;
    let loopback = origins.iter().any(|o| o == LOOPBACK);
    let allowed = move |origin: &HeaderValue, _: &Parts| {
        exact.contains(origin) || (loopback && origin.to_str().is_ok_and(is_loopback))
    };
    let names =
        |list: &[&'static str]| -> Vec<_> { list.iter().copied().map(HeaderName::from_static).collect() };
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_methods([Method::POST, Method::GET])
        .allow_headers(names(&SENT))
        .expose_headers(names(&SEEN))
        .max_age(PREFLIGHT_AGE))
}

/// The exact origins of the configuration.
///
/// # Errors
/// `INVALID_ARGUMENT` for an origin that is not valid.
pub(crate) fn exact_origins(origins: &[String]) -> Result<Vec<HeaderValue>> {
    origins.iter().filter(|o| *o != LOOPBACK).map(|o| parse_origin(o)).collect()
}

/// The origin under which browsers reach this gateway, if it is configured.
///
/// # Errors
/// `INVALID_ARGUMENT` for an origin that is not valid.
pub(crate) fn public_origin(config: &Config) -> Result<Option<HeaderValue>> {
    let wrong = |_| {
        let text = format!("`{}` is not an origin, such as https://foundry.example", config.public_url);
        Error::invalid_field("gateway.public_url", text)
    };
    let origin = (!config.public_url.is_empty()).then(|| parse_origin(&config.public_url));
    origin.transpose().map_err(wrong)
}

fn parse_origin(text: &str) -> Result<HeaderValue> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_origin = rest.is_some_and(|r| !r.is_empty() && !r.contains(['/', '*', '?', '#', '@', ' ']));
    let value = HeaderValue::from_str(text).ok().filter(|_| is_origin && !text.contains(char::is_uppercase));
    value.ok_or_else(|| {
        let text = format!("`{text}` is neither an origin, such as https://foundry.example, nor {LOOPBACK}");
        Error::invalid_field("gateway.allowed_origins", text)
    })
}

fn is_loopback(origin: &str) -> bool {
    let Some(host) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else {
        return false;
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| {
        host.strip_prefix(name).is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
        })
    })
}

/// Passes only content types that the inner layers understand, and refuses others with an error.
#[derive(Clone, Copy)]
pub(crate) struct ContentTypeLayer;

impl<S> tower::Layer<S> for ContentTypeLayer {
    type Service = ContentTypes<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ContentTypes { inner }
    }
}

/// The service made by [`ContentTypeLayer`].
#[derive(Clone)]
pub(crate) struct ContentTypes<S> {
    inner: S,
}

impl<S> tower::Service<Request<Body>> for ContentTypes<S>
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<std::future::Ready<Result<Response<Body>, Infallible>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match normalize(&mut request) {
            Ok(()) => Either::Right(self.inner.call(request)),
            Err(answer) => Either::Left(std::future::ready(Ok(*answer))),
        }
    }
}

/// Passes exact content types; drops parameters (`; charset=utf-8`), which the inner layers would refuse.
fn normalize(request: &mut Request<Body>) -> Result<(), Box<Response<Body>>> {
    let Some(value) = request.headers().get(header::CONTENT_TYPE) else { return Ok(()) };
    let sent = SentContentType(value.clone());
    let whole = value.to_str().unwrap_or_default();
    let essence = whole.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !essence.starts_with("application/grpc") {
        return Ok(());
    }
    let web = essence.starts_with("application/grpc-web");
    let exact: &'static str = match essence.as_str() {
        "application/grpc" => "application/grpc",
        "application/grpc+proto" => "application/grpc+proto",
        "application/grpc-web" => "application/grpc-web",
        "application/grpc-web+proto" => "application/grpc-web+proto",
        "application/grpc-web-text" => "application/grpc-web-text",
        "application/grpc-web-text+proto" => "application/grpc-web-text+proto",
        _ => {
            return Err(plain(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "CONTENT_TYPE_UNSUPPORTED",
                "use application/grpc or application/grpc-web, with or without +proto",
            ));
        }
    };
    if request.method() != Method::POST {
        return Err(plain(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "gRPC calls must use POST"));
    }
    if !web && request.version() < Version::HTTP_2 {
        return Err(plain(
            StatusCode::UPGRADE_REQUIRED,
            "HTTP2_REQUIRED",
            "gRPC needs HTTP/2; over HTTP/1.1 use application/grpc-web",
        ));
    }
    // No page sends the header twice.
    if request.headers().get_all(header::CONTENT_TYPE).iter().count() == 1 {
        request.extensions_mut().insert(sent);
    }
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(exact));
    Ok(())
}

fn plain(status: StatusCode, reason: &'static str, message: &str) -> Box<Response<Body>> {
    let response = (status, Json(problem(reason, message)));
    Box::new(response.into_response().map(Body::new))
}

/// An error over plain HTTP.
pub(crate) fn problem(reason: &str, message: &str) -> serde_json::Value {
    serde_json::json!({ "reason": reason, "message": message, "domain": Error::DOMAIN })
}

const ABOUT: &str = "\
This is Foundry: a mesh that runs coding-agent tasks. This port serves gRPC, gRPC-Web and, to browsers, the
workbench.

  foundry login --web                      sign in to the workbench
  foundry login                            sign in on this machine
  grpcurl -plaintext <address> list        list the services
  GET /healthz                             health of the services

Every call except sign-in needs `authorization: Bearer <token>`: the token from `foundry login`, or one created
with `foundry token create`.
";

/// The routes of plain HTTP.
pub(crate) fn plain_routes(health: Health, page: Page) -> Router {
    let (root, elsewhere) = (page.clone(), page);
    Router::new()
        .route("/", get(move |request| std::future::ready(at_root(&root, &request))))
        .route("/healthz", get(healthz))
        .fallback(move |request| std::future::ready(at(&elsewhere, &request)))
        .method_not_allowed_fallback(|| async {
            (
                StatusCode::METHOD_NOT_ALLOWED,
                Json(problem("METHOD_NOT_ALLOWED", "this page only supports GET")),
            )
        })
        .with_state(Arc::new(health))
}

async fn healthz(State(health): State<Arc<Health>>) -> (StatusCode, Json<serde_json::Value>) {
    let services = health.services().await;
    let serving = services.values().all(|works| *works);
    let status = if serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = |works: bool| if works { "serving" } else { "not serving" };
    let services: serde_json::Map<_, _> =
        services.into_iter().map(|(name, works)| (name, word(works).into())).collect();
    (status, Json(serde_json::json!({ "status": word(serving), "services": services })))
}

/// Browsers get the page, all others a short text.
fn at_root(page: &Page, request: &axum::extract::Request) -> axum::response::Response {
    of_page(page, request).unwrap_or_else(|| ABOUT.into_response())
}

fn at(page: &Page, request: &axum::extract::Request) -> axum::response::Response {
    if methods::method(request.uri().path()).is_some() {
        let text = "this path is a gRPC method: send application/grpc or application/grpc-web";
        let problem = Json(problem("CONTENT_TYPE_UNSUPPORTED", text));
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, problem).into_response();
    }
    let nothing = || (StatusCode::NOT_FOUND, Json(problem("NOT_FOUND", "not found"))).into_response();
    of_page(page, request).unwrap_or_else(nothing)
}

fn of_page(page: &Page, request: &axum::extract::Request) -> Option<axum::response::Response> {
    let answer = page.answer(request.method(), request.uri().path(), request.headers())?;
    Some(answer.map(axum::body::Body::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine_and_no_name_that_looks_like_it() {
        for origin in ["http://localhost", "http://localhost:5173", "https://127.0.0.1:1", "http://[::1]:80"]
        {
            assert!(is_loopback(origin), "{origin}");
        }
        for origin in [
            "http://localhost.evil.example",
            "http://127.0.0.1:80.evil.example",
            "null",
            "http://evil/localhost",
        ] {
            assert!(!is_loopback(origin), "{origin}");
        }
    }

    #[test]
    fn an_origin_of_the_configuration_is_exact_or_refused() {
        assert!(cors(&["https://foundry.example:8443".to_owned()]).is_ok());
        for bad in
            ["*", "https://*.example", "foundry.example", "https://a.example/", "https://A.example", ""]
        {
            assert!(cors(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
