//! The service as its clients use it: over sockets, with real tokens, keys and feeds.

#![allow(clippy::unwrap_used)] // a test's way to fail

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foundry_auth::{Config, DEVELOPMENT_SECRET_FILE, Dependencies};
use foundry_authn::{
    Authenticator, CLIENT_PAGE, CLIENT_PEER, IdentityLayer, SESSION_CLEAR, SESSION_SET, ServiceIdentity,
    StreamNotice,
};
use foundry_core::{Env, OrganizationId, Tasks};
use foundry_proto::auth::v1::auth_service_client::AuthServiceClient;
use foundry_proto::auth::v1::complete_sign_in_request::Proof;
use foundry_proto::auth::v1::{
    CompleteSignInRequest, CreateAccessTokenRequest, DevelopmentProof, ExchangeTokenRequest,
    ExchangeTokenResponse, GetUserRequest, RemoveMemberRequest, RevokeAccessTokenRequest,
    SelectOrganizationRequest, SessionDelivery, SetMemberRequest, SignOutRequest, WatchAppShellRequest,
};
use foundry_proto::common::v1::Role;
use foundry_server::testing::TestServer;
use foundry_server::{DataDirectory, Upstream};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

const LIST_TASKS: &str = "/foundry.task.v1.TaskService/ListTasks";

struct Mesh {
    server: TestServer,
    env: Env,
    tasks: Tasks,
    dir: tempfile::TempDir,
    _data: DataDirectory,
}

impl Mesh {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (env, (tasks, _)) = (Env::system(), Tasks::new());
        let data = DataDirectory::open(dir.path()).unwrap();
        let keys_dir = dir.path().join("keys");
        let watch_observer = Arc::new(foundry_watch::NoObserver);
        let deps = Dependencies {
            env: env.clone(),
            tasks: tasks.clone(),
            data: &data,
            keys_dir,
            public_url: String::new(),
            flow_hooks: Arc::new(foundry_flow::NoHooks),
            watch_observer,
        };
        let config = Config { development_sign_in: true, ..Config::default() };
        let server = TestServer::start(foundry_auth::build(config, deps).await.unwrap()).await.unwrap();
        Self { server, env, tasks, dir, _data: data }
    }

    fn identity(&self, service: &str) -> ServiceIdentity {
        ServiceIdentity::load_or_create(&self.keys(), service, &self.env).unwrap()
    }

    fn keys(&self) -> std::path::PathBuf {
        self.dir.path().join("keys")
    }

    fn anonymous(&self) -> AuthServiceClient<Upstream> {
        AuthServiceClient::new(self.server.remote().unwrap())
    }

    fn gateway(&self) -> AuthServiceClient<Upstream> {
        let layer = IdentityLayer::new(self.identity("gateway"), "auth").unwrap();
        AuthServiceClient::new(self.server.local.clone().layer(layer))
    }

    fn sign_in_as(&self, login: &str) -> CompleteSignInRequest {
        let secret = secret(self.dir.path());
        let proof = DevelopmentProof { secret, login: login.into(), organization_name: String::new() };
        CompleteSignInRequest { proof: Some(Proof::Development(proof)), ..Default::default() }
    }

    async fn exchange(&self, token: &str) -> Result<ExchangeTokenResponse, Status> {
        let request = ExchangeTokenRequest { token: token.to_owned() };
        Ok(self.gateway().exchange_token(request).await?.into_inner())
    }

    /// Signs in a user; returns its access token and organization.
    async fn user(&self, login: &str) -> (String, OrganizationId) {
        let signed_in = self.anonymous().complete_sign_in(self.sign_in_as(login)).await.unwrap().into_inner();
        let token = self.exchange(&signed_in.session_token).await.unwrap().access_token;
        (token, signed_in.organization.unwrap().organization_id.parse().unwrap())
    }

    /// The authenticator with which another service checks its callers.
    fn other_service(&self) -> Arc<Authenticator> {
        let remote = self.server.remote().unwrap();
        Authenticator::connect(&self.identity("task"), remote, &self.env, &self.tasks).unwrap()
    }
}

fn secret(dir: &Path) -> String {
    std::fs::read_to_string(dir.join(DEVELOPMENT_SECRET_FILE)).unwrap().trim().to_owned()
}

fn with<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn headers(token: &str) -> http::HeaderMap {
    with((), token).metadata().clone().into_headers()
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|i| i.reason.clone()).unwrap_or_default()
}

/// Waits for an event. The limit allows for a busy machine, yet is too short for any slower fallback.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}

/// As [`in_time`], and records the duration.
async fn timed<T>(took: &mut Vec<Duration>, future: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let found = in_time(future).await;
    took.push(begun.elapsed());
    found
}

/// A busy machine may delay one of several consecutive operations, but not all of them.
fn assert_one_within_a_second(took: &[Duration]) {
    assert!(took.iter().any(|t| *t < Duration::from_secs(1)), "{took:?}");
}

#[tokio::test]
async fn a_user_signs_in_on_this_machine_and_sees_itself() {
    let mesh = Mesh::start().await;
    let (token, _) = mesh.user("alice").await;
    let seen = mesh.anonymous().get_user(with(GetUserRequest {}, &token)).await.unwrap().into_inner();
    assert_eq!(seen.user.unwrap().login, "alice");
    let refused = mesh.anonymous().get_user(GetUserRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "TOKEN_MISSING"));
}

#[tokio::test]
async fn the_gateway_says_where_its_client_is_and_nobody_else_does() {
    let mesh = Mesh::start().await;
    let from = |peer: &'static str| {
        let mut request = Request::new(mesh.sign_in_as("alice"));
        request.metadata_mut().insert(CLIENT_PEER, peer.parse().unwrap());
        request
    };
    mesh.gateway().complete_sign_in(from("loopback")).await.unwrap();
    let remote = mesh.gateway().complete_sign_in(from("remote")).await.unwrap_err();
    assert_eq!(reason(&remote), "SIGN_IN_NOT_LOCAL");
    // Without a socket and without the gateway's identity, the client counts as remote.
    let mut unsaid = AuthServiceClient::new(mesh.server.local.clone());
    let refused = unsaid.complete_sign_in(from("loopback")).await.unwrap_err();
    assert_eq!(reason(&refused), "SIGN_IN_NOT_LOCAL");
}

#[tokio::test]
async fn only_the_gateway_exchanges_tokens() {
    let mesh = Mesh::start().await;
    let signed_in = mesh.anonymous().complete_sign_in(mesh.sign_in_as("alice")).await.unwrap().into_inner();
    let request = || ExchangeTokenRequest { token: signed_in.session_token.clone() };
    let user = mesh.exchange(&signed_in.session_token).await.unwrap().access_token;
    let task = mesh.identity("task").token("auth").unwrap();
    for token in [user, task] {
        let refused = mesh.anonymous().exchange_token(with(request(), &token)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
}

#[tokio::test]
async fn another_service_refuses_a_revoked_token_and_ends_its_streams_within_a_second() {
    let mesh = Mesh::start().await;
    let task = mesh.other_service();
    let (session, organization) = mesh.user("alice").await;
    let mut took = Vec::new();
    for request_id in ["r1", "r2", "r3"] {
        let create = CreateAccessTokenRequest {
            request_id: request_id.into(),
            organization_id: organization.to_string(),
            name: "ci".into(),
            lifetime: None,
        };
        let made = mesh.anonymous().create_access_token(with(create, &session)).await.unwrap().into_inner();
        let token = mesh.exchange(&made.secret).await.unwrap().access_token;
        let caller = task.authenticate(LIST_TASKS, &headers(&token)).await.unwrap().unwrap();
        assert_eq!(caller.role_in(&organization), Some(Role::Owner));
        let mut stream = task.stream_pass(caller, Some(organization.clone()));

        let access_token_id = made.access_token.unwrap().access_token_id;
        let revoke = RevokeAccessTokenRequest { request_id: String::new(), access_token_id };
        mesh.anonymous().revoke_access_token(with(revoke, &session)).await.unwrap();
        let StreamNotice::End(end) = timed(&mut took, stream.next()).await else { panic!("no end") };
        assert_eq!(end.reason(), "TOKEN_REVOKED");
        let refused = task.authenticate(LIST_TASKS, &headers(&token)).await.unwrap_err();
        assert_eq!(refused.reason(), "TOKEN_REVOKED");
    }
    assert_one_within_a_second(&took);
    task.authenticate(LIST_TASKS, &headers(&session)).await.unwrap();
}

#[tokio::test]
async fn another_service_ends_the_streams_of_a_removed_member_within_a_second() {
    let mesh = Mesh::start().await;
    let task = mesh.other_service();
    let (alice, acme) = mesh.user("alice").await;
    let mut took = Vec::new();
    for login in ["bob", "carol", "dave"] {
        let signed_in = mesh.anonymous().complete_sign_in(mesh.sign_in_as(login)).await.unwrap().into_inner();
        let add = SetMemberRequest {
            request_id: String::new(),
            organization_id: acme.to_string(),
            login: login.into(),
            role: Role::Viewer.into(),
        };
        mesh.anonymous().set_member(with(add, &alice)).await.unwrap();
        let member = mesh.exchange(&signed_in.session_token).await.unwrap().access_token;
        let caller = task.authenticate(LIST_TASKS, &headers(&member)).await.unwrap().unwrap();
        assert_eq!(caller.role_in(&acme), Some(Role::Viewer));
        let mut stream = task.stream_pass(caller, Some(acme.clone()));

        let user_id = signed_in.user.unwrap().user_id;
        let remove =
            RemoveMemberRequest { request_id: String::new(), organization_id: acme.to_string(), user_id };
        mesh.anonymous().remove_member(with(remove, &alice)).await.unwrap();
        let StreamNotice::End(end) = timed(&mut took, stream.next()).await else { panic!("no end") };
        assert_eq!(end.reason(), "MEMBERSHIP_REVOKED");
        let caller = task.authenticate(LIST_TASKS, &headers(&member)).await.unwrap().unwrap();
        assert_eq!(caller.role_in(&acme), None);
    }
    assert_one_within_a_second(&took);
}

#[tokio::test]
async fn the_secret_of_a_cookie_goes_to_the_gateway_beside_the_answer() {
    let mesh = Mesh::start().await;
    let from = |page: Option<&'static str>| {
        let cookie = SessionDelivery::Cookie.into();
        let message = CompleteSignInRequest { session_delivery: cookie, ..mesh.sign_in_as("alice") };
        let mut request = Request::new(message);
        request.metadata_mut().insert(CLIENT_PEER, "loopback".parse().unwrap());
        if let Some(page) = page {
            request.metadata_mut().insert(CLIENT_PAGE, page.parse().unwrap());
        }
        request
    };
    let answer = mesh.gateway().complete_sign_in(from(Some("own"))).await.unwrap();
    let said = answer.metadata().get(SESSION_SET).unwrap().to_str().unwrap().to_owned();
    assert_eq!(answer.into_inner().session_token, "");
    let (_, token) = said.split_once(' ').unwrap();
    let jwt = mesh.exchange(token).await.unwrap().access_token;
    let answer = mesh.anonymous().sign_out(with(SignOutRequest {}, &jwt)).await.unwrap();
    assert!(answer.metadata().contains_key(SESSION_CLEAR));
    assert_eq!(mesh.exchange(token).await.unwrap_err().code(), Code::Unauthenticated);

    let unsaid = mesh.gateway().complete_sign_in(from(None)).await.unwrap_err();
    assert_eq!(reason(&unsaid), "PAGE_REFUSED");
    let forged = mesh.anonymous().complete_sign_in(from(Some("own"))).await.unwrap_err();
    assert_eq!(reason(&forged), "PAGE_REFUSED");
}

#[tokio::test]
async fn signing_out_ends_the_streams_and_tokens_of_the_session_everywhere_within_a_second() {
    let mesh = Mesh::start().await;
    let task = mesh.other_service();
    let (other, _) = mesh.user("alice").await;
    let (mut streams, mut shells) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (token, _) = mesh.user("alice").await;
        let caller = task.authenticate(LIST_TASKS, &headers(&token)).await.unwrap().unwrap();
        let mut stream = task.stream_pass(caller, None);
        let watch = with(WatchAppShellRequest::default(), &token);
        let mut shell = mesh.anonymous().watch_app_shell(watch).await.unwrap().into_inner();
        assert!(shell.message().await.unwrap().is_some());
        mesh.anonymous().sign_out(with(SignOutRequest {}, &token)).await.unwrap();
        let StreamNotice::End(end) = timed(&mut streams, stream.next()).await else { panic!("no end") };
        assert_eq!(end.reason(), "TOKEN_REVOKED");
        let ended = timed(&mut shells, async {
            loop {
                if let Err(status) = shell.message().await {
                    return status;
                }
            }
        });
        assert_eq!(reason(&ended.await), "TOKEN_REVOKED");
    }
    assert_one_within_a_second(&streams);
    assert_one_within_a_second(&shells);
    task.authenticate(LIST_TASKS, &headers(&other)).await.unwrap();
}

#[tokio::test]
async fn a_selected_organization_reaches_the_watches_of_its_user_under_the_answered_revision() {
    let mesh = Mesh::start().await;
    let (token, home) = mesh.user("alice").await;
    let mut acme = mesh.sign_in_as("alice");
    if let Some(Proof::Development(proof)) = &mut acme.proof {
        proof.organization_name = "acme".into();
    }
    mesh.anonymous().complete_sign_in(acme).await.unwrap();
    let watch = WatchAppShellRequest { user_id: user_of(&mesh, &token).await, ..Default::default() };
    let mut shell = mesh.gateway().watch_app_shell(watch).await.unwrap().into_inner();
    let select = SelectOrganizationRequest { request_id: "r1".into(), organization_id: home.to_string() };
    let selected = mesh.anonymous().select_organization(with(select, &token)).await.unwrap().into_inner();
    let wanted = foundry_proto::auth::v1::AppShellItem {
        item: Some(foundry_proto::auth::v1::app_shell_item::Item::User(selected.user.unwrap())),
    };
    let wanted = prost::Message::encode_to_vec(&wanted);
    in_time(async {
        loop {
            let frame = shell.message().await.unwrap().unwrap();
            let bytes = prost::Message::encode_to_vec(&frame);
            if bytes.windows(wanted.len()).any(|w| w == wanted) {
                return;
            }
        }
    })
    .await;
    assert!(selected.rev > 0);
}

async fn user_of(mesh: &Mesh, token: &str) -> String {
    let seen = mesh.anonymous().get_user(with(GetUserRequest {}, token)).await.unwrap();
    seen.into_inner().user.unwrap().user_id
}

#[tokio::test]
async fn users_cannot_watch_revocations() {
    let mesh = Mesh::start().await;
    let (alice, _) = mesh.user("alice").await;
    let request = foundry_proto::auth::v1::WatchRevocationsRequest::default();
    let refused = mesh.anonymous().watch_revocations(with(request, &alice)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}
