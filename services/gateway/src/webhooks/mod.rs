//! Deliveries of webhooks: `POST /webhooks/<forge>/<id>`. They come from hosts of repositories, which have no token: who
//! knows the secret of the webhook is decided by the repo service, over the bytes as they arrived. Nothing is parsed here.
//!
//! They have limits and a bulkhead of their own, so that neither a burst of deliveries takes room from users nor users from
//! deliveries, which a host may send only once. A host waits a quarter of a second for the answer (`gateway.webhook_answer`): by
//! then a delivery is stored, or the answer says that it is not.

mod body;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use axum::{Json, Router};
use foundry_authn::{IdentityLayer, ServiceIdentity};
use foundry_core::{Code, Error, Tasks};
use foundry_proto::repo::v1::repo_service_client::RepoServiceClient;
use foundry_proto::repo::v1::{ReceiveWebhookRequest, ReceiveWebhookResponse, WebhookHeader};
use foundry_server::{Kind, PeerAddress, Upstream};
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use tokio::sync::{Semaphore, oneshot};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::caller_limits::{Account, CallerBook};
use crate::web::problem;
use body::LargeBodies;

/// Deliveries that the repo service has at a time.
const AT_ONCE: usize = 64;
/// How long the repo service may take for one, also after its host was answered.
const STORING: Duration = Duration::from_secs(5);
/// Longest id in an address.
const MAX_ID: usize = 64;
/// Longest header that is passed on, and most of them.
const MAX_HEADER: usize = 1 << 10;
const MAX_HEADERS: usize = 32;
/// The headers that forges sign and name deliveries with begin like this.
const PASSED_ON: [&str; 6] =
    ["x-github-", "x-hub-signature-256", "x-gitlab-", "x-gitea-", "x-forgejo-", "idempotency-key"];

/// What the routes share.
#[derive(Clone)]
struct Door {
    repo: RepoServiceClient<Upstream>,
    callers: CallerBook,
    turns: Arc<Semaphore>,
    /// How long a host waits for its answer.
    answer: Duration,
    tasks: Tasks,
    large_bodies: Arc<LargeBodies>,
}

/// The webhook in an address.
#[derive(serde::Deserialize)]
struct Named {
    forge: String,
    id: String,
}

/// The routes below `/webhooks/`.
///
/// # Errors
/// When the identity has no key for the repo service.
pub(crate) fn routes(
    repo: &Upstream,
    identity: ServiceIdentity,
    callers: CallerBook,
    (answer, tasks): (Duration, Tasks),
) -> Result<Router, Error> {
    let repo = RepoServiceClient::new(repo.clone().layer(IdentityLayer::new(identity, "repo")?));
    let (turns, large_bodies) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::default());
    let door = Door { repo, callers, turns, answer, tasks, large_bodies };
    let handler = |State(door): State<Door>, Path(named): Path<Named>, request: Request| async move {
        door.receive(named, request).await.map_or_else(|refused| *refused, accepted)
    };
    Ok(Router::new().route("/webhooks/{forge}/{id}", any(handler)).with_state(door))
}

impl Door {
    async fn receive(self, named: Named, request: Request) -> Result<ReceiveWebhookResponse, Box<Response>> {
        check(&request)?;
        let peer = Account::of_peer(request.extensions().get::<PeerAddress>().copied());
        let id: String = named.id.chars().take(MAX_ID).collect();
        let account = Account::Webhook(id.as_str().into());
        let permit = self.callers.enter(&account, Kind::Unary).map_err(|e| refusal(&e.into_status()))?;
        // An address that has guessed too often gets no further, and costs neither memory nor a call.
        self.callers.check(&peer).map_err(|e| refusal(&e.into_status()))?;
        let headers = passed_on(request.headers());
        let address = request.extensions().get::<PeerAddress>().copied();
        let owner = address.map(|peer| peer.network());
        let body = body::read(request, owner, &self.large_bodies, body::ARRIVAL).await?;
        let deadline = tokio::time::Instant::now() + self.answer;
        let turn = tokio::time::timeout_at(deadline, self.turns.acquire_owned()).await;
        // The semaphore is never closed.
        let Ok(Ok(turn)) = turn else { return Err(refusal(&busy().into_status())) };
        // Guessing counts against the limits of the address, from before the answer on: many at once are no way past it.
        let guess = self.callers.reserve(&peer).map_err(|e| refusal(&e.into_status()))?;
        let delivery = ReceiveWebhookRequest {
            forge: named.forge,
            repository_webhook_id: id,
            headers,
            body,
            peer_address: address.map(|peer| peer.0.ip().to_canonical().to_string()).unwrap_or_default(),
        };
        let mut call = tonic::Request::new(delivery);
        call.set_timeout(STORING);
        let (sender, answer) = oneshot::channel();
        let mut repo = self.repo;
        // It goes on when the host was answered: what is stored late has its effects all the same, and once.
        self.tasks.spawn("webhook delivery", async move {
            let answer = repo.receive_webhook(call).await;
            let refused = answer.as_ref().err().map(Status::code);
            if !matches!(refused, Some(tonic::Code::Unauthenticated | tonic::Code::NotFound)) {
                guess.give_back();
            }
            drop((turn, permit));
            // The host may have been answered, or be gone.
            let _ = sender.send(answer);
        });
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(Ok(answer))) => Ok(answer.into_inner()),
            Ok(Ok(Err(status))) => Err(refusal(&status)),
            Ok(Err(_)) | Err(_) => Err(refusal(&slow().into_status())),
        }
    }
}

/// Refuses what can be no delivery before any of its body is read.
fn check(request: &Request) -> Result<(), Box<Response>> {
    if request.method() != Method::POST {
        let mut response = plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            "deliveries of webhooks must use POST",
        );
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Err(response);
    }
    let text = |name| request.headers().get(name).map_or("", |value| value.to_str().unwrap_or("?"));
    let essence = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_plain = matches!(text(CONTENT_ENCODING), "" | "identity");
    if essence != "application/json" || !is_plain {
        return Err(plain(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "CONTENT_TYPE_UNSUPPORTED",
            "set the content type of the webhook to application/json, without compression",
        ));
    }
    body::check_length(request.headers())
}

/// The headers that the signature and the id of a delivery may be in; longer ones count as absent.
fn passed_on(headers: &HeaderMap) -> Vec<WebhookHeader> {
    let wanted = headers.iter().filter(|(name, value)| {
        value.len() <= MAX_HEADER && PASSED_ON.iter().any(|begin| name.as_str().starts_with(begin))
    });
    let text = wanted.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    text.take(MAX_HEADERS)
        .map(|(name, value)| WebhookHeader { name: name.to_owned(), value: value.to_owned() })
        .collect()
}

fn accepted(answer: ReceiveWebhookResponse) -> Response {
    let name = answer.result().as_str_name().trim_start_matches("REPOSITORY_WEBHOOK_RESULT_");
    let body = serde_json::json!({ "result": name.to_ascii_lowercase(), "duplicate": answer.duplicate });
    (StatusCode::OK, Json(body)).into_response()
}

fn slow() -> Error {
    let text = "the delivery was not stored in time; it may still be";
    Error::unavailable("WEBHOOK_SLOW", text, Duration::from_secs(10))
}

fn busy() -> Error {
    Error::unavailable("WEBHOOK_BUSY", "many deliveries are arriving", Duration::from_secs(10))
}

/// An error of the mesh, as hosts show it in their lists of deliveries.
fn refusal(status: &Status) -> Box<Response> {
    let details = status.get_error_details();
    let code = match status.code() {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable | Code::Aborted => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let reason = details.error_info().map(|info| info.reason.as_str()).filter(|reason| !reason.is_empty());
    let mut response = plain(code, reason.unwrap_or("INTERNAL"), status.message());
    if let Some(after) = details.retry_info().and_then(|info| info.retry_delay) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

fn plain(status: StatusCode, reason: &str, message: &str) -> Box<Response> {
    Box::new((status, Json(problem(reason, message))).into_response())
}
