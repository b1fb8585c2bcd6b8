//! Sign-in at identity providers, as a browser goes through it: `/auth/ways`, `/auth/begin/<provider>`,
//! `/auth/callback/<provider>`. Nothing is decided here and no session opened: the page opens it afterwards, with the
//! secret that only it has (ADR 0028). The browser is sent nowhere but to the provider and to the page's sign-in.

mod callback;
mod cookie;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use foundry_core::{Clock, Code, Env, Error, Result};
use foundry_proto::auth::v1::auth_service_client::AuthServiceClient;
use foundry_proto::auth::v1::{BeginSignInRequest, ListSignInWaysRequest, SignInWayKind};
use foundry_server::{Kind, PeerAddress, Upstream};
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Extensions, HeaderMap, StatusCode};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::caller_limits::{Account, CallerBook, Permit};
use crate::config::Config;
use crate::web::{self, problem};

/// Longest body of a beginning: a secret and a name.
const MAX_BODY: usize = 4 << 10;
/// How long auth may take for one call.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest name of a provider.
const MAX_NAME: usize = 64;

/// What the routes share.
#[derive(Clone)]
struct Door {
    auth: AuthServiceClient<Upstream>,
    callers: CallerBook,
    clock: Arc<dyn Clock>,
    /// The origin of the page; none if it is not configured.
    public: Option<HeaderValue>,
}

/// What the page sends to begin.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Beginning {
    set_up_secret: String,
    organization: String,
}

/// The routes below `/auth/`.
///
/// # Errors
/// `INVALID_ARGUMENT` when the public address is not valid.
pub(crate) fn routes(
    config: &Config,
    auth: AuthServiceClient<Upstream>,
    callers: CallerBook,
    env: &Env,
) -> Result<Router> {
    let door = Door { auth, callers, clock: env.clock.clone(), public: web::public_origin(config)? };
    Ok(Router::new()
        .route(
            "/auth/ways",
            get(|State(door): State<Door>, request: Request| async move {
                door.ways(request.into_parts().0).await.unwrap_or_else(|refused| refusal(&refused))
            }),
        )
        .route(
            "/auth/begin/{provider}",
            post(|State(door): State<Door>, Path(provider): Path<String>, request: Request| async move {
                door.begin(provider, request).await.unwrap_or_else(|refused| refusal(&refused))
            }),
        )
        .route(
            "/auth/callback/{provider}",
            get(|State(door): State<Door>, Path(provider): Path<String>, request: Request| async move {
                door.callback(provider, request.into_parts().0).await
            }),
        )
        .with_state(door))
}

impl Door {
    /// Counts the call against the limits of its address.
    fn enter(&self, extensions: &Extensions) -> Result<Permit, Status> {
        let peer = Account::of_peer(extensions.get::<PeerAddress>().copied());
        self.callers.enter(&peer, Kind::Unary).map_err(Error::into_status)
    }

    /// The ways to sign in, as data.
    async fn ways(&self, request: Parts) -> Result<Response, Status> {
        let _permit = self.enter(&request.extensions)?;
        let answer =
            self.auth.clone().list_sign_in_ways(within(ListSignInWaysRequest {})).await?.into_inner();
        let ways: Vec<_> = answer
            .ways
            .iter()
            .map(|way| {
                let kind = if way.kind() == SignInWayKind::Github { "github" } else { "openid" };
                serde_json::json!({ "name": way.name, "title": way.title, "kind": kind })
            })
            .collect();
        let public = self.public.as_ref().and_then(|origin| origin.to_str().ok()).unwrap_or_default();
        let body = serde_json::json!({
            "ways": ways,
            "development": answer.development,
            "set_up_required": answer.set_up_required,
            "public_url": public,
        });
        Ok(kept_out_of_caches(Json(body).into_response()))
    }

    /// Begins a sign-in for the gateway's own page, and binds it to this browser.
    async fn begin(&self, provider: String, request: Request) -> Result<Response, Status> {
        let _permit = self.enter(request.extensions())?;
        let public = self.public.as_ref().ok_or_else(|| no_public_url().into_status())?;
        check_page(request.headers(), public).map_err(Error::into_status)?;
        let body = axum::body::to_bytes(request.into_body(), MAX_BODY).await;
        let body = body.map_err(|_| malformed("it is longer than 4 KiB").into_status())?;
        let it: Beginning = match body.is_empty() {
            true => Beginning::default(),
            false => {
                serde_json::from_slice(&body).map_err(|_| malformed("it is not as expected").into_status())?
            }
        };
        let origin = public.to_str().unwrap_or_default();
        let provider: String = provider.chars().take(MAX_NAME).collect();
        let begin = BeginSignInRequest {
            redirect_uri: format!("{origin}/auth/callback/{provider}"),
            provider,
            set_up_secret: it.set_up_secret,
            organization_name: it.organization,
        };
        let begun = self.auth.clone().begin_sign_in(within(begin)).await?.into_inner();
        let body = serde_json::json!({
            "sign_in_id": begun.sign_in_id, "claim": begun.claim, "url": begun.authorization_url,
        });
        let mut response = kept_out_of_caches(Json(body).into_response());
        response.headers_mut().extend(cookie::set(public, &begun.browser_binding));
        Ok(response)
    }
}

/// Only the page at the public address begins: it has the secret then, and the provider sends the browser back there.
fn check_page(headers: &HeaderMap, public: &HeaderValue) -> Result<()> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let own = origins.next() == Some(public) && origins.next().is_none();
    let mut sites = headers.get_all("sec-fetch-site").iter();
    let same_site = sites.next().is_none_or(|site| site == "same-origin") && sites.next().is_none();
    if !own || !same_site {
        let text = "a sign-in begins on the page at the public address of this gateway only";
        return Err(Error::new(Code::PermissionDenied, "PAGE_REFUSED", text)
            .next_action("open the address in `gateway.public_url` and sign in there"));
    }
    match headers.get(header::CONTENT_TYPE) {
        Some(kind) if kind == "application/json" => Ok(()),
        _ => Err(malformed("its content type is not application/json")),
    }
}

fn malformed(why: &str) -> Error {
    Error::invalid_field("body", format!("cannot be used: {why}"))
}

fn no_public_url() -> Error {
    let text = "`gateway.public_url` is not set, so no identity provider can send browsers back";
    Error::precondition("PUBLIC_URL_MISSING", "gateway.public_url", text)
        .next_action("set it to the address that browsers use, and restart")
}

/// A call of auth with a time limit.
fn within<T>(message: T) -> tonic::Request<T> {
    let mut call = tonic::Request::new(message);
    call.set_timeout(ANSWER);
    call
}

/// The reason of an error, if it is one of ours.
fn reason(status: &Status) -> Option<String> {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone())?;
    let plain = !reason.is_empty()
        && reason.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    plain.then_some(reason)
}

fn refusal(status: &Status) -> Response {
    let code = match status.code() {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable | Code::DeadlineExceeded => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let reason = reason(status).unwrap_or_else(|| "INTERNAL".to_owned());
    kept_out_of_caches((code, Json(problem(&reason, status.message()))).into_response())
}

/// Answers differ by time and browser, and some have secrets.
fn kept_out_of_caches(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
