//! The layer as a service applies it: policy, caller, refusals on the wire.

use std::convert::Infallible;
use std::time::Duration;

use crate::support::Mesh;
use foundry_authn::{AuthnLayer, Caller, CallerLabel, ON_BEHALF_OF, ServiceIdentity, Signer, TokenKind};
use http::{Request, Response};
use tonic::Code;
use tonic::body::Body;
use tonic_types::StatusExt as _;
use tower::{Layer as _, ServiceExt as _};

const LIST_TASKS: &str = "/foundry.task.v1.TaskService/ListTasks";
const CREATE_TASK: &str = "/foundry.task.v1.TaskService/CreateTask";
const GET_REPOSITORY: &str = "/foundry.repo.v1.RepoService/GetRepository";
const EXCHANGE: &str = "/foundry.auth.v1.AuthService/ExchangeToken";
const KEYS: &str = "/foundry.auth.v1.AuthService/GetSigningKeys";

/// What the handler behind the layer saw, or the status that the layer answered.
async fn call(mesh: &Mesh, service: &str, request: Request<()>) -> Result<Option<Caller>, tonic::Status> {
    let inner = tower::service_fn(|request: Request<()>| async move {
        let mut response = Response::new(Body::empty());
        if let Some(caller) = request.extensions().get::<Caller>() {
            response.extensions_mut().insert(caller.clone());
        }
        Ok::<_, Infallible>(response)
    });
    let layer = AuthnLayer::new(mesh.authenticator(service));
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    let caller = response.extensions().get::<Caller>().cloned();
    let label = response.extensions().get::<CallerLabel>().map(|l| l.0.to_string());
    assert_eq!(caller.as_ref().map(Caller::actor), label);
    match tonic::Status::from_header_map(response.headers()) {
        Some(status) => Err(status),
        None => Ok(caller),
    }
}

fn request(path: &str, token: Option<String>) -> Request<()> {
    let mut request = Request::builder().uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(()).unwrap()
}

fn reason(status: &tonic::Status) -> String {
    status.get_error_details().error_info().map(|i| i.reason.clone()).unwrap_or_default()
}

#[tokio::test]
async fn answers_a_missing_token_as_grpc_with_details() {
    let mesh = Mesh::new();
    let status = call(&mesh, "task", request(LIST_TASKS, None)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "TOKEN_MISSING"));
}

#[tokio::test]
async fn shows_the_handler_who_calls() {
    let mesh = Mesh::new();
    let caller = call(&mesh, "task", request(LIST_TASKS, Some(mesh.token()))).await.unwrap().unwrap();
    assert_eq!(caller.as_user().unwrap().user_id, mesh.user);
}

#[tokio::test]
async fn takes_nobodys_word_for_a_caller_in_the_extensions() {
    let mesh = Mesh::new();
    let mut forged = request(KEYS, None);
    forged.extensions_mut().insert(Caller::service("gateway"));
    assert_eq!(call(&mesh, "auth", forged).await.unwrap(), None);
}

#[tokio::test]
async fn keeps_users_and_unlisted_services_from_a_service_method() {
    let mesh = Mesh::new();
    for token in [mesh.token(), mesh.task.token("auth").unwrap()] {
        let status = call(&mesh, "auth", request(EXCHANGE, Some(token))).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    }
    let key = Signer::generate_key(&mesh.test.env);
    let gateway = ServiceIdentity::new("gateway", &key, &mesh.test.env).unwrap();
    mesh.source.set(vec![gateway.published()]);
    let caller = call(&mesh, "auth", request(EXCHANGE, Some(gateway.token("auth").unwrap()))).await.unwrap();
    assert!(caller.unwrap().is_service("gateway"));
}

#[tokio::test]
async fn keeps_services_from_a_method_for_members_that_lists_none() {
    let mesh = Mesh::new();
    let token = mesh.task.token("task").unwrap();
    let status = call(&mesh, "task", request(LIST_TASKS, Some(token))).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn refuses_a_viewer_a_members_method_before_the_handler() {
    let mesh = Mesh::new();
    let mut claims = mesh.claims();
    claims.orgs.values_mut().for_each(|r| *r = "viewer".into());
    let token = mesh.auth.mint(TokenKind::User, &claims).unwrap();
    let status = call(&mesh, "task", request(CREATE_TASK, Some(token.clone()))).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(call(&mesh, "task", request(LIST_TASKS, Some(token))).await.is_ok());
}

#[tokio::test]
async fn opens_health_reflection_and_open_methods_whatever_the_token() {
    let mesh = Mesh::new();
    for path in [
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        KEYS,
    ] {
        assert_eq!(call(&mesh, "auth", request(path, None)).await.unwrap(), None, "{path}");
        assert_eq!(call(&mesh, "auth", request(path, Some("rubbish".into()))).await.unwrap(), None, "{path}");
    }
}

#[tokio::test]
async fn refuses_methods_that_do_not_exist() {
    let mesh = Mesh::new();
    for path in ["/foundry.task.v1.TaskService/Nope", "/", "/foundry.task.v1.TaskService/ListTasks/"] {
        let status = call(&mesh, "task", request(path, Some(mesh.token()))).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn refuses_two_authorization_headers_and_other_schemes() {
    let mesh = Mesh::new();
    let mut two = request(LIST_TASKS, Some(mesh.token()));
    two.headers_mut().append("authorization", "Bearer x".parse().unwrap());
    let mut basic = request(LIST_TASKS, None);
    basic.headers_mut().insert("authorization", "Basic eDp5".parse().unwrap());
    for bad in [two, basic] {
        let status = call(&mesh, "task", bad).await.unwrap_err();
        assert_eq!(reason(&status), "TOKEN_MALFORMED");
    }
}

#[tokio::test]
async fn believes_for_whom_a_service_acts_and_no_user_who_says_so() {
    let mesh = Mesh::new();
    let other = foundry_core::UserId::generate(&mesh.test.env);
    let acting = |token: String| {
        let mut r = request(GET_REPOSITORY, Some(token));
        r.headers_mut().insert(ON_BEHALF_OF, other.as_str().parse().unwrap());
        r
    };
    let caller = call(&mesh, "repo", acting(mesh.task.token("repo").unwrap())).await.unwrap().unwrap();
    assert_eq!((caller.actor().as_str(), caller.on_behalf_of()), ("service:task", Some(&other)));
    let caller = call(&mesh, "repo", acting(mesh.token())).await.unwrap().unwrap();
    assert_eq!(caller.on_behalf_of(), Some(&mesh.user));
}

#[tokio::test]
async fn without_the_feed_for_a_minute_nothing_is_changed_while_reads_and_services_go_on() {
    let mesh = Mesh::new();
    let lost = mesh.test.env.clock.now();
    mesh.revocations.feed_lost(lost);
    let change = || request(CREATE_TASK, Some(mesh.token()));
    mesh.test.clock.advance(Duration::from_secs(59));
    call(&mesh, "task", change()).await.unwrap();
    mesh.test.clock.advance(Duration::from_secs(1));
    let status = call(&mesh, "task", change()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "REVOCATIONS_STALE"));
    assert!(status.get_error_details().retry_info().is_some());
    call(&mesh, "task", request(LIST_TASKS, Some(mesh.token()))).await.unwrap();
    let action = "/foundry.repo.v1.RepoService/RunRepositoryAction";
    call(&mesh, "repo", request(action, Some(mesh.task.token("repo").unwrap()))).await.unwrap();

    mesh.revocations.feed_restored();
    call(&mesh, "task", change()).await.unwrap();
}

#[tokio::test]
async fn a_read_without_the_feed_ends_with_its_token() {
    let mesh = Mesh::new();
    mesh.revocations.feed_lost(mesh.test.env.clock.now());
    let token = mesh.token();
    mesh.test.clock.advance(Duration::from_secs(300));
    call(&mesh, "task", request(LIST_TASKS, Some(token.clone()))).await.unwrap();
    // The clocks of two machines may differ by a few seconds.
    mesh.test.clock.advance(Duration::from_secs(6));
    let status = call(&mesh, "task", request(LIST_TASKS, Some(token))).await.unwrap_err();
    assert_eq!(reason(&status), "TOKEN_EXPIRED");
}
