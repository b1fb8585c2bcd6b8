//! A gateway with a real listener, and services behind it that a test controls.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use foundry_authn::{
    AUTH_ISSUER, Authenticator, Claims, KeyRing, Revocations, ServiceIdentity, Signer, StaticKeys, TokenKind,
    USER_AUDIENCE,
};
use foundry_core::{Code, Env, Error, OrganizationId, Tasks, UserId};
use foundry_gateway::{Config, Dependencies, build};
use foundry_proto::auth::v1::{
    BeginSignInResponse, ExchangeTokenRequest, ExchangeTokenResponse, GetSignInResponse,
    ListSignInWaysResponse, ReceiveSignInRequest, ReceiveSignInResponse, SignInState, SignInWay,
    SignInWayKind, SigningKey,
};
use foundry_proto::repo::v1::ReceiveWebhookRequest;
use foundry_proto::task::v1::task_service_client::TaskServiceClient;
use foundry_proto::task::v1::{GetTaskRequest, GetTaskResponse, Task};
use foundry_server::config::{DrainConfig, Limits, ServerConfig};
use foundry_server::testing::TestServer;
use foundry_server::{Routed, Service, Upstream};
use foundry_testkit::{MockClock, TestEnv, test_env};
use foundry_watch::{Observer, Reconnect};
use foundry_watch_hub::FrameStream;
use futures::stream::{self, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;

use crate::owner::Owner;

const BOUND: Duration = Duration::from_secs(20);

/// Waits with a time limit.
pub async fn bounded<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(BOUND, future).await.expect("it must not hang")
}

/// What the services behind the gateway have received, and what they do.
pub struct Behind {
    pub seen: Mutex<Vec<(String, HeaderMap)>>,
    /// The deliveries of webhooks, as messages.
    pub bodies: Mutex<Vec<Bytes>>,
    pub exchanges: AtomicUsize,
    pub refused: Mutex<HashSet<String>>,
    /// A permit for each call or stream that has begun to hang.
    pub entered: Semaphore,
    /// A permit for each of them whose caller has gone away.
    pub dropped: Semaphore,
    /// Lets held exchanges and streams continue.
    pub release: CancellationToken,
    pub hold_exchanges: Mutex<bool>,
    /// Makes the gateway panic once, when an upstream breaks off.
    pub panics: AtomicBool,
    /// The watches that the gateway reported as stalled, and why.
    pub stalls: Mutex<Vec<(&'static str, Code)>>,
    /// The service whose watches the edge carries.
    pub owner: Owner,
    /// The claims of new tokens: whether the user is a member, as of which revision.
    pub is_member: AtomicBool,
    pub revision: AtomicI64,
    pub user: UserId,
    /// The user of opaque tokens that end in `_of_another`.
    pub other_user: UserId,
    pub organization: OrganizationId,
    signer: Signer,
    env: Env,
}

/// Makes the gateway panic when a test asks for it, and keeps what it reports.
struct Fused(Arc<Behind>);

impl std::fmt::Debug for Fused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fused")
    }
}

impl Observer for Fused {
    fn reconnected(&self, _view: &'static str, _why: Reconnect) {
        assert!(!self.0.panics.swap(false, Ordering::SeqCst), "as the test asks");
    }

    fn stalled(&self, view: &'static str, code: Code) {
        self.0.stalls.lock().unwrap().push((view, code));
    }
}

struct Dropped(Arc<Behind>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.add_permits(1);
    }
}

impl Behind {
    pub fn last_headers(&self, path: &str) -> HeaderMap {
        let seen = self.seen.lock().unwrap();
        seen.iter().rev().find(|(p, _)| p.ends_with(path)).expect("the call arrived").1.clone()
    }

    pub fn calls(&self, path: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|(p, _)| p.ends_with(path)).count()
    }

    /// A valid access token of a member with this credential.
    pub fn jwt(&self, credential: &str) -> String {
        self.jwt_of(&self.user, credential)
    }

    /// A valid access token of this user with this credential.
    pub fn jwt_of(&self, user: &UserId, credential: &str) -> String {
        let now = self.env.clock.now().as_micros() / 1_000_000;
        let is_member = self.is_member.load(Ordering::SeqCst);
        let member = is_member.then(|| (self.organization.to_string(), "member".to_owned()));
        let claims = Claims {
            iss: AUTH_ISSUER.into(),
            sub: user.to_string(),
            aud: USER_AUDIENCE.into(),
            iat: now,
            exp: now + 300,
            jti: format!("t{}", self.exchanges.load(Ordering::SeqCst)),
            sid: credential.into(),
            rev: self.revision.load(Ordering::SeqCst),
            orgs: member.into_iter().collect(),
        };
        self.signer.mint(TokenKind::User, &claims).unwrap()
    }

    async fn serve(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let own_page = parts.headers.get("foundry-client-page").is_some_and(|v| v == "own");
        let headers = parts.headers.clone();
        self.seen.lock().unwrap().push((path.clone(), parts.headers));
        let bytes = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(status) => return status.into_http(),
        };
        let message = bytes.get(5..).unwrap_or_default();
        match path.rsplit('/').next().unwrap() {
            "ExchangeToken" => self.exchange(message).await,
            "CompleteSignIn" if own_page => saying(&[("foundry-session-set", &self.session_set("fdc_page"))]),
            "ListSignInWays" | "BeginSignIn" | "ReceiveSignIn" | "GetSignIn" => {
                self.sign_in(path.rsplit('/').next().unwrap(), &bytes.slice(5..))
            }
            "SignOut" => saying(&[("foundry-session-clear", "1")]),
            // Headers that no service but auth may send.
            "ListTasks" => {
                saying(&[("foundry-session-set", &self.session_set("fdc_task")), ("set-cookie", "a=b")])
            }
            "GetTask" => self.get_task(message).await,
            "WatchTask" if message.is_empty() => self.watch_task(),
            "WatchTask" => {
                let opened = self.owner.watch(message);
                if self.owner.hangs.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                streaming(opened)
            }
            "ReceiveWebhook" => {
                self.bodies.lock().unwrap().push(bytes.slice(5..));
                let refused = |code| Error::new(code, "WEBHOOK_REFUSED", "refused").into_status().into_http();
                match ReceiveWebhookRequest::decode(message).unwrap().repository_webhook_id.as_str() {
                    "absent" => refused(Code::NotFound),
                    "forged" => refused(Code::Unauthenticated),
                    "slow" => {
                        self.release.cancelled().await;
                        self.entered.add_permits(1);
                        unary(&[])
                    }
                    _ => unary(&[]),
                }
            }
            "AuthorizeWatch" => match self.owner.authorize(&headers, message).await {
                Ok(answer) => unary(&answer.encode_to_vec()),
                Err(status) => status.into_http(),
            },
            _ => unary(&[]),
        }
    }

    /// Sign-in at a provider: begins and receives everything but the code `used`.
    fn sign_in(&self, method: &str, message: &Bytes) -> Response<Body> {
        let refused = || {
            Error::new(Code::PermissionDenied, "SIGN_IN_USED", "it has come back").into_status().into_http()
        };
        match method {
            "BeginSignIn" => {
                self.bodies.lock().unwrap().push(message.clone());
                let begun = BeginSignInResponse {
                    sign_in_id: "sgn_1".into(),
                    authorization_url: "https://provider.example/".into(),
                    claim: "the-claim".into(),
                    browser_binding: "the-binding".into(),
                    expire_time: None,
                };
                unary(&begun.encode_to_vec())
            }
            "ReceiveSignIn" => {
                self.bodies.lock().unwrap().push(message.clone());
                if ReceiveSignInRequest::decode(message.clone()).unwrap().code == "used" {
                    return refused();
                }
                let return_secret = "the-return".into();
                unary(&ReceiveSignInResponse { sign_in_id: "sgn_1".into(), return_secret }.encode_to_vec())
            }
            "GetSignIn" => {
                self.bodies.lock().unwrap().push(message.clone());
                let state = SignInState::Admitted.into();
                unary(&GetSignInResponse { state, reason: String::new() }.encode_to_vec())
            }
            _ => {
                let (name, title) = ("github".to_owned(), "GitHub".to_owned());
                let ways = vec![SignInWay { name, title, kind: SignInWayKind::Github.into() }];
                let answer = ListSignInWaysResponse {
                    ways,
                    development: false,
                    set_up_required: true,
                    ..Default::default()
                };
                unary(&answer.encode_to_vec())
            }
        }
    }

    /// The header value that asks for the cookie of a session of one hour.
    fn session_set(&self, token: &str) -> String {
        let ends = self.env.clock.now().plus(Duration::from_secs(3_600));
        format!("{} {token}", ends.as_micros())
    }

    async fn exchange(self: Arc<Self>, message: &[u8]) -> Response<Body> {
        self.exchanges.fetch_add(1, Ordering::SeqCst);
        self.entered.add_permits(1);
        if *self.hold_exchanges.lock().unwrap() {
            self.release.cancelled().await;
        }
        let token = ExchangeTokenRequest::decode(message).unwrap().token;
        if self.refused.lock().unwrap().contains(&token) {
            return Error::new(Code::Unauthenticated, "TOKEN_REVOKED", "revoked").into_status().into_http();
        }
        let credential_id = format!("crd_{token}");
        let user = if token.ends_with("_of_another") { &self.other_user } else { &self.user };
        let access_token = self.jwt_of(user, &credential_id);
        unary(&ExchangeTokenResponse { access_token, expire_time: None, credential_id }.encode_to_vec())
    }

    async fn get_task(self: Arc<Self>, message: &[u8]) -> Response<Body> {
        let task_id = match GetTaskRequest::decode(message) {
            Ok(request) => request.task_id,
            Err(e) => return Error::invalid_field("message", e.to_string()).into_status().into_http(),
        };
        match task_id.as_str() {
            "absent" => return Error::not_found("task", "absent").into_status().into_http(),
            "hang" => {
                let _dropped = Dropped(self.clone());
                self.entered.add_permits(1);
                std::future::pending::<()>().await;
            }
            _ => {}
        }
        let task = Some(Task { task_id, ..Task::default() });
        unary(&GetTaskResponse { task, sessions: Vec::new() }.encode_to_vec())
    }

    /// Sends one frame at once, one after the release, then the end.
    fn watch_task(self: Arc<Self>) -> Response<Body> {
        self.entered.add_permits(1);
        let (behind, dropped) = (self.clone(), Dropped(self));
        let rest = stream::once(async move {
            let _dropped = dropped;
            behind.release.cancelled().await;
            stream::iter([Ok(Frame::data(framed(b"\x08\x02"))), Ok(ok_trailers())])
        });
        answer(stream::iter([Ok(Frame::data(framed(b"\x08\x01")))]).chain(rest.flatten()))
    }
}

pub fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap());
    bytes.put_slice(message);
    bytes.freeze()
}

fn ok_trailers() -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-at-the-end", HeaderValue::from_static("kept"));
    trailers.insert("foundry-at-the-end", HeaderValue::from_static("between services"));
    Frame::trailers(trailers)
}

/// The frames of a hub, and its status at the end.
fn streaming(opened: Result<FrameStream, Status>) -> Response<Body> {
    let frames = match opened {
        Ok(frames) => frames,
        Err(status) => return status.into_http(),
    };
    let ended = stream::once(async { Err(Status::ok("")) });
    let frames = frames.chain(ended).scan(false, |is_over, frame| {
        let next = match frame {
            _ if *is_over => None,
            Ok(frame) => Some(Ok(Frame::data(framed(&frame.encode_to_vec())))),
            Err(status) => {
                *is_over = true;
                let mut trailers = HeaderMap::new();
                status.add_header(&mut trailers).unwrap();
                Some(Ok(Frame::trailers(trailers)))
            }
        };
        std::future::ready(next)
    });
    answer(frames)
}

fn unary(message: &[u8]) -> Response<Body> {
    answer(stream::iter([Ok(Frame::data(framed(message))), Ok(ok_trailers())]))
}

/// An empty response with these headers.
fn saying(headers: &[(&'static str, &str)]) -> Response<Body> {
    let mut response = unary(&[]);
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

fn answer(
    frames: impl futures::Stream<Item = Result<Frame<Bytes>, Status>> + Send + 'static,
) -> Response<Body> {
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// How the gateway reaches the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// In this process.
    Locally,
    /// Over TCP sockets.
    Remotely,
}

pub struct Mesh {
    pub gateway: TestServer,
    pub behind: Arc<Behind>,
    pub revocations: Revocations,
    /// The task service's server; a test can stop it.
    pub task: Option<TestServer>,
    pub clock: Arc<MockClock>,
    pub service: ServiceIdentity,
    pub tasks: Tasks,
}

impl Mesh {
    pub async fn start(reached: Reached) -> Self {
        Self::start_with(reached, Config::default()).await
    }

    pub async fn start_with(reached: Reached, config: Config) -> Self {
        Self::start_limited(reached, config, Limits::default()).await
    }

    /// With these limits of the gateway's own server.
    pub async fn start_limited(reached: Reached, config: Config, limits: Limits) -> Self {
        let TestEnv { env, clock } = test_env();
        Self::start_in(env, clock, reached, config, limits).await
    }

    /// On the system's clock: for tests in which time passes by itself.
    pub async fn start_in_time(reached: Reached) -> Self {
        Self::start_in(Env::system(), Arc::default(), reached, Config::default(), Limits::default()).await
    }

    async fn start_in(
        env: Env,
        clock: Arc<MockClock>,
        reached: Reached,
        config: Config,
        limits: Limits,
    ) -> Self {
        let signer = Signer::new("auth", &Signer::generate_key(&env)).unwrap();
        let identity = |name: &str| ServiceIdentity::new(name, &Signer::generate_key(&env), &env).unwrap();
        let (gateway, service) = (identity("gateway"), identity("task"));
        let public = SigningKey {
            key_id: signer.key_id().into(),
            issuer: AUTH_ISSUER.into(),
            public_key: signer.public_key().to_vec().into(),
            create_time: None,
        };
        let keys = StaticKeys(vec![public, gateway.published(), service.published()]);
        let keys = KeyRing::new(Arc::new(keys), env.clock.clone());
        let revocations = Revocations::none();
        let authenticator = Authenticator::new("gateway", keys, revocations.clone(), &env).unwrap();
        let (user, organization) = (UserId::generate(&env), OrganizationId::generate(&env));
        let behind = Arc::new(Behind {
            seen: Mutex::default(),
            bodies: Mutex::default(),
            exchanges: AtomicUsize::new(0),
            refused: Mutex::default(),
            entered: Semaphore::new(0),
            dropped: Semaphore::new(0),
            release: CancellationToken::new(),
            hold_exchanges: Mutex::new(false),
            panics: AtomicBool::new(false),
            stalls: Mutex::default(),
            owner: Owner::start(&env, &organization).await,
            is_member: AtomicBool::new(true),
            revision: AtomicI64::new(5),
            user,
            other_user: UserId::generate(&env),
            organization,
            signer,
            env: env.clone(),
        });
        let task = start_task(&behind).await;
        let auth =
            TestServer::start(service_of(&behind, "auth", "foundry.auth.v1.AuthService")).await.unwrap();
        let upstream = |server: &TestServer| match reached {
            Reached::Locally => server.local.clone(),
            Reached::Remotely => server.remote().unwrap(),
        };
        let repo =
            TestServer::start(service_of(&behind, "repo", "foundry.repo.v1.RepoService")).await.unwrap();
        let upstreams =
            BTreeMap::from([("task", upstream(&task)), ("auth", upstream(&auth)), ("repo", upstream(&repo))]);
        let (tasks, _) = Tasks::new();
        let authenticator = Arc::new(authenticator);
        let watch_observer = Arc::new(Fused(Arc::clone(&behind)));
        let deps = Dependencies {
            env,
            tasks: tasks.clone(),
            upstreams,
            authenticator,
            identity: gateway,
            watch_observer,
        };
        let gateway = build(&config, deps).await.unwrap();
        let drain = DrainConfig { serving_delay: Duration::ZERO, ..DrainConfig::default() };
        let server = ServerConfig { limits, ..ServerConfig::default() };
        let gateway = TestServer::start_with(gateway, server, drain).await.unwrap();
        let mesh = Self { gateway, behind, revocations, task: Some(task), clock, service, tasks };
        // Keeps their listeners until the test ends.
        mesh.tasks.spawn("auth and repo", async move {
            tokio::join!(auth.ended(), repo.ended());
        });
        mesh
    }

    pub fn client(&self) -> TaskServiceClient<Upstream> {
        TaskServiceClient::new(self.gateway.remote().unwrap())
    }

    /// Calls `GetTask` with this bearer token.
    pub async fn get(&self, task_id: &str, token: &str) -> Result<tonic::Response<GetTaskResponse>, Status> {
        let request = with_token(GetTaskRequest { task_id: task_id.into() }, token);
        bounded(self.client().get_task(request)).await
    }
}

pub fn with_token<T>(message: T, token: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// A server whose drain cuts hanging calls at once.
async fn start_task(behind: &Arc<Behind>) -> TestServer {
    let service = service_of(behind, "task", "foundry.task.v1.TaskService");
    let none = Duration::ZERO;
    let drain = DrainConfig { serving_delay: none, watches: none, unary: none, ..DrainConfig::default() };
    TestServer::start_with(service, ServerConfig::default(), drain).await.unwrap()
}

fn service_of(behind: &Arc<Behind>, name: &'static str, grpc: &'static str) -> Service {
    let behind = behind.clone();
    let routes = tower::service_fn(move |request| {
        let behind = behind.clone();
        async move { Ok::<_, Infallible>(behind.serve(request).await) }
    });
    let routes: Routed = BoxCloneSyncService::new(routes);
    Service::forwarding(name, [grpc], routes)
}

/// The stable reason in a status' details.
pub fn reason(status: &Status) -> String {
    let details = tonic_types::StatusExt::get_error_details(status);
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}
