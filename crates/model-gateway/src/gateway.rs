//! A call from its request head to its answer.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Env, Tasks};
use foundry_git_http::LargeBodies;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt as _, Full};

use crate::access::{Access, Kind, Ledger, Refused, Unit};
use crate::answer;
use crate::bodies::{self, Bodies};
use crate::call::Call;
use crate::condition::{ConditionKind, ModelCondition};
use crate::connection_slots;
use crate::gate::{Admission, First, Gate, KeyName};
use crate::include_usage::{Asked, most_of_gemini};
use crate::mcp::Endpoints;
use crate::proof::SandboxProof;
use crate::reports::Reports;
use crate::reserve::{Crowded, Reserved, tokens_of};
use crate::route::{Api, Route};
use crate::shape::{Family, Problem, Retry};
use crate::upstream;
use crate::waits::Waits;
use crate::{Body, BoxError};

/// How long the ledger may take to resolve a token.
pub(crate) const ACCESS: Duration = Duration::from_secs(10);
/// How long a call waits at most until the usage of earlier calls is counted.
const SETTLING: Duration = Duration::from_secs(1);
/// How long a call waits for the one that goes first after a quota's reset.
const FIRST: Duration = Duration::from_secs(30);

/// How long a call waits at most for its share of a limit, and after what time its session shows the wait.
const SHARE: Duration = Duration::from_secs(120);
const SHOWN: Duration = Duration::from_secs(5);

/// The gateway's limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A call is ended after this time without a byte from the provider.
    pub silence: Duration,
    /// How long calls in progress may continue after the service's tasks were cancelled.
    pub drain: Duration,
    /// Connections of one sandbox at once; further ones are refused.
    pub connections_of_sandbox: usize,
    /// Connections of all sandboxes at once. A sandbox gets at most half of those still free, so that a few greedy ones
    /// leave room for the others.
    pub connections: usize,
}

impl Default for Settings {
    /// Five minutes of silence, three seconds to drain, 256 connections of a sandbox and 2,048 of all.
    fn default() -> Self {
        let (silence, drain) = (Duration::from_secs(300), Duration::from_secs(3));
        Self { silence, drain, connections_of_sandbox: 256, connections: 2048 }
    }
}

/// The model gateway; clones share it.
#[derive(Clone)]
pub struct Gateway(pub(crate) Arc<Inner>);

/// A gateway for as long as it has a listener or a call.
#[derive(Clone)]
pub struct WeakGateway(Weak<Inner>);

impl WeakGateway {
    /// Allows calls with a provider's keys again before the reset of its quota.
    pub fn let_go(&self, provider: &str) {
        if let Some(gateway) = self.0.upgrade() {
            gateway.gate.let_go(provider);
        }
    }
}

pub(crate) struct Inner {
    pub(crate) ledger: Arc<dyn Ledger>,
    client: reqwest::Client,
    settings: Settings,
    pub(crate) env: Env,
    tasks: Tasks,
    gate: Gate,
    bodies: Bodies,
    /// Messages to MCP servers, which may take long.
    pub(crate) messages: Bodies,
    /// Large requests of git.
    pub(crate) fetches: LargeBodies,
    reports: Reports,
    reserved: Reserved,
    waits: Waits,
    /// Message addresses of MCP servers with the older transport.
    pub(crate) endpoints: Endpoints,
}

impl Gateway {
    /// A gateway that resolves tokens with `ledger` and calls providers with `client` (made by
    /// `foundry_http_client::http_client`). Its background work runs on `tasks`.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        client: reqwest::Client,
        settings: Settings,
        env: Env,
        tasks: Tasks,
    ) -> Self {
        let reports = Reports::start(&ledger, &env, &tasks, settings.drain + Duration::from_secs(1));
        let (gate, bodies, messages) = (Gate::default(), Bodies::of_models(), Bodies::of_mcp());
        let endpoints = Endpoints::default();
        let (reserved, waits) = (Reserved::default(), Waits::default());
        Self(Arc::new(Inner {
            ledger,
            client,
            settings,
            env,
            tasks,
            gate,
            bodies,
            messages,
            fetches: LargeBodies::default(),
            reports,
            reserved,
            waits,
            endpoints,
        }))
    }

    /// A reference for those who must not keep it alive: its reports end when its last call has.
    pub fn downgrade(&self) -> WeakGateway {
        WeakGateway(Arc::downgrade(&self.0))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// Answers one request of an agent. Dropping the future, or the body of the answer, ends the call to the provider.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        if parts.uri.path().starts_with("/mcp/") {
            return self.mcp(parts, body).await;
        }
        if parts.uri.path().starts_with("/git/") {
            return self.git(parts, body).await;
        }
        let mut body = Some(body);
        let Some(route) = route(&parts) else {
            let family = family_of_unknown(parts.uri.path());
            return refuse(family, &path_unknown(parts.uri.path()), body).await;
        };
        let mut family = route.family.unwrap_or(Family::OpenAi);
        match self.served(parts, &mut body, route, &mut family).await {
            Ok(answer) => answer,
            Err(problem) => refuse(family, &problem, body).await,
        }
    }

    async fn served<B>(
        &self,
        parts: Parts,
        body: &mut Option<B>,
        route: Route,
        shape: &mut Family,
    ) -> Result<Response<Body>, Problem>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let came = self.0.gate.count();
        let (token, query) = upstream::token(&parts.headers, parts.uri.query());
        let mut access = self.access(token.as_deref(), &parts.headers).await?;
        // Before anything is awaited: a connection that has proved nothing may be dropped.
        connection_slots::take(&parts, &access.owner.session)?;
        if !access.limits.is_empty() {
            // Earlier calls of this session must be counted first.
            tokio::select! {
                () = self.0.reports.settled(&access) => {}
                () = self.0.env.clock.sleep(SETTLING) => {}
            }
            access = self.access(token.as_deref(), &parts.headers).await?;
        }
        let access = Arc::new(access);
        let family = route.served_by(access.kind).ok_or_else(|| other_kind(access.kind, parts.uri.path()))?;
        *shape = family;
        let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let taken = match body.take() {
            Some(body) => self.0.bodies.take(&access.owner.session, announced, body).await?,
            None => return Err(bodies::malformed("it has no body")),
        };
        let is_json = matches!(route.api, Api::Messages | Api::Chat | Api::Responses);
        let asked = if is_json { Some(Asked::of(&taken.bytes)) } else { None };
        let asked =
            asked.transpose().map_err(|e| bodies::malformed(&format!("its body is malformed: {e}")))?;
        if route.api == Api::Responses && asked.as_ref().is_some_and(Asked::is_in_background) {
            return Err(bodies::malformed(
                "background responses (\"background\": true) cannot be counted; send the request without it",
            ));
        }
        let named = asked.as_ref().and_then(|a| a.model.as_deref()).or(route.model.as_deref());
        let call = Call {
            model: named.unwrap_or_default().to_owned(),
            key: KeyName::of(&access),
            access,
            api: route.api,
            family,
            gate: self.0.gate.clone(),
            reports: self.0.reports.clone(),
            env: self.0.env.clone(),
            came,
            read: tokens_of(&taken.bytes),
            most: match &asked {
                Some(asked) => asked.most(),
                None => most_of_gemini(&taken.bytes),
            },
            reservation: None,
        };
        permitted(&call)?;
        let call = self.reserved(call, token.as_deref(), &parts.headers).await?;
        let first = self.admitted(&call).await?;
        let asking = match &asked {
            Some(asked) if route.api == Api::Chat => asked.including_usage(&taken.bytes),
            _ => None,
        };
        let hides_usage = asking.is_some();
        let request = self
            .0
            .client
            .request(parts.method, upstream::address(&call.access, family, &route, query.as_deref()))
            .headers(upstream::headers(&call.access, family, parts.headers));
        // A request without a body must have none at the provider either.
        let request = match asking.unwrap_or_else(|| taken.bytes.clone()) {
            bytes if bytes.is_empty() => request,
            bytes => request.body(bytes),
        };
        let answer = answer::of(&call, request, hides_usage, self.0.settings.silence, &self.0.tasks).await;
        drop((first, taken));
        answer
    }

    /// Gives a call its share of the limits. It waits while calls in progress may use up a limit.
    async fn reserved(
        &self,
        mut call: Call,
        token: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Call, Problem> {
        if !call.api.generates() || call.access.limits.is_empty() {
            return Ok(call);
        }
        let clock = &self.0.env.clock;
        let (mut over, mut long) = (clock.sleep(SHARE), clock.sleep(SHOWN));
        let mut shown = None;
        loop {
            let taken = self.0.reserved.take(&call.access, &call.model, call.read, call.most);
            let Crowded { scope, freed } = match taken {
                Ok(own) => {
                    call.reservation = Some(Arc::new(own));
                    return Ok(call);
                }
                Err(full) => full,
            };
            let mut freed = Box::pin(freed);
            loop {
                tokio::select! {
                    biased;
                    () = &mut freed => break,
                    () = &mut over => {
                        let words = "calls in progress may reach the limit, and none of them has finished";
                        return Err(bodies::busy(words));
                    }
                    () = &mut long, if shown.is_none() => shown = Some(self.0.waits.show(&call, &scope)),
                }
            }
            call.access = Arc::new(self.access(token, headers).await?);
            permitted(&call)?;
        }
    }

    async fn access(&self, token: Option<&str>, headers: &HeaderMap) -> Result<Access, Problem> {
        let token = token.ok_or_else(token_refused)?;
        let proof = SandboxProof::from_headers(headers).map_err(|_| token_refused())?;
        match tokio::time::timeout(ACCESS, self.0.ledger.access(token, proof.as_ref())).await {
            Ok(Ok(access)) => Ok(access),
            Ok(Err(Refused::Token)) => Err(token_refused()),
            Ok(Err(Refused::ProviderGone(words))) => Err(Problem {
                status: StatusCode::FORBIDDEN,
                reason: "MODEL_PROVIDER_NOT_FOUND",
                words,
                retry: Retry::Never,
            }),
            Ok(Err(Refused::Unavailable(why))) => {
                tracing::warn!(%why, "a token of a sandbox cannot be checked");
                Err(bodies::busy("its token cannot be checked"))
            }
            Err(_) => {
                tracing::warn!("a token of a sandbox was not checked within ten seconds");
                Err(bodies::busy("its token cannot be checked"))
            }
        }
    }

    /// Waits for the call that goes first, if there is one; refuses while the quota is known to be used up.
    async fn admitted(&self, call: &Call) -> Result<Option<First>, Problem> {
        if !call.api.generates() {
            return Ok(None);
        }
        let wait = tokio::time::timeout(FIRST, async {
            loop {
                let remembered = call.access.held_until.filter(|until| *until > call.now());
                if let Some(until) = remembered.filter(|_| !self.0.gate.knows(call.key)) {
                    return Err(until);
                }
                match self.0.gate.admit(call.key, call.now()) {
                    Admission::Go(first) => return Ok(first),
                    Admission::Held(until) => return Err(until),
                    // An error means that the call has ended.
                    Admission::Wait(mut first) => drop(first.changed().await),
                }
            }
        });
        match wait.await {
            Ok(Ok(first)) => Ok(first),
            Ok(Err(_)) if call.is_of_before() => {
                Err(bodies::busy("its model provider has just been changed or is being retried"))
            }
            Ok(Err(until)) => {
                let words =
                    format!("the key's quota is exhausted until {until}; the provider was not called");
                let kind = ConditionKind::Quota { resume_at: Some(until), notice: false, ends_turn: true };
                // Not reported through the call, which would hold the key again.
                let condition = ModelCondition { kind, model: call.model.clone(), words: words.clone() };
                call.reports.condition(&call.access, condition);
                let retry = Retry::NotBefore(until.since(call.now()));
                Err(Problem { status: StatusCode::TOO_MANY_REQUESTS, reason: "MODEL_QUOTA", words, retry })
            }
            Err(_) => {
                Err(bodies::busy("another call is checking whether the key's quota is available again"))
            }
        }
    }
}

/// The route of a request; `None` for a request to switch protocols.
fn route(parts: &Parts) -> Option<Route> {
    let websocket =
        |value: &HeaderValue| value.to_str().is_ok_and(|v| v.to_lowercase().contains("websocket"));
    let upgrade = parts.headers.get_all(header::UPGRADE).iter().any(websocket);
    (!upgrade).then(|| Route::of(&parts.method, parts.uri.path()))?
}

/// Whether profile and limits permit the call.
fn permitted(call: &Call) -> Result<(), Problem> {
    if !call.api.generates() {
        return Ok(());
    }
    if !call.access.allows(&call.model) {
        let words = format!("this agent may not use the model {:?}", call.model);
        call.report(ConditionKind::NotAllowed, &words);
        return Err(Problem {
            status: StatusCode::FORBIDDEN,
            reason: "MODEL_NOT_ALLOWED",
            words,
            retry: Retry::Never,
        });
    }
    if let Some(limit) = call.access.used_up() {
        let amount = |n: u64| match limit.unit {
            Unit::Tokens => format!("{n} tokens"),
            Unit::Micros => format!("{}.{:02} USD", n / 1_000_000, n % 1_000_000 / 10_000),
        };
        let words = format!(
            "the limit of {} for {} is reached ({} used); the provider was not called",
            amount(limit.maximum),
            limit.scope,
            amount(limit.used)
        );
        call.report(ConditionKind::LimitReached, &words);
        return Err(Problem {
            status: StatusCode::PAYMENT_REQUIRED,
            reason: "MODEL_LIMIT_REACHED",
            words,
            retry: Retry::Never,
        });
    }
    Ok(())
}

fn token_refused() -> Problem {
    Problem {
        status: StatusCode::UNAUTHORIZED,
        reason: "MODEL_TOKEN_REFUSED",
        words: "the token does not belong to this sandbox, or the sandbox has ended".to_owned(),
        retry: Retry::Never,
    }
}

fn path_unknown(path: &str) -> Problem {
    let shown: String = path.chars().take(100).collect();
    Problem {
        status: StatusCode::NOT_FOUND,
        reason: "MODEL_PATH_UNKNOWN",
        words: format!("the model gateway does not serve {shown:?} with this method"),
        retry: Retry::Never,
    }
}

fn other_kind(kind: Kind, path: &str) -> Problem {
    let words = format!("a model provider of kind {kind:?} does not support {path:?}");
    Problem { words, ..path_unknown(path) }
}

/// The API whose error format a caller of an unknown path expects, as far as the path shows it.
fn family_of_unknown(path: &str) -> Family {
    if path.contains("anthropic") || path.contains("/messages") {
        Family::Anthropic
    } else if path.contains("gemini") || path.contains("v1beta") || path.contains("/models/") {
        Family::Gemini
    } else {
        Family::OpenAi
    }
}

/// An answer of the gateway itself. A body that is still arriving is read first, within limits.
async fn refuse<B>(family: Family, problem: &Problem, body: Option<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes>,
{
    if let Some(body) = body {
        bodies::drain(body).await;
    }
    let full = Full::new(problem.body(family)).map_err(|never| match never {});
    let mut response = Response::new(full.boxed_unsync());
    *response.status_mut() = problem.status;
    *response.headers_mut() = problem.headers();
    response
}
