//! Tokens at the edge.

use std::sync::atomic::Ordering;
use std::time::Duration;

use foundry_authn::{credential_key, role_key};
use foundry_core::{Clock as _, Code};
use foundry_gateway::{CallerLimits, Config};
use foundry_proto::auth::v1::auth_service_client::AuthServiceClient;
use foundry_proto::auth::v1::{ExchangeTokenRequest, SignOutRequest};
use foundry_proto::task::v1::{CreateTaskRequest, GetTaskRequest};

use crate::mesh::{Mesh, Reached, bounded, reason, with_token};

#[tokio::test]
async fn an_opaque_token_is_exchanged_once_for_all_who_wait_and_replaced_by_the_jwt() {
    let mesh = Mesh::start(Reached::Remotely).await;
    *mesh.behind.hold_exchanges.lock().unwrap() = true;
    let calls = futures::future::join_all((0..10).map(|_| mesh.get("task_1", "fpat_1")));
    let release = async {
        bounded(mesh.behind.entered.acquire()).await.unwrap().forget();
        mesh.behind.release.cancel();
    };
    let (answers, ()) = tokio::join!(calls, release);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    mesh.get("task_1", "fpat_1").await.unwrap();
    assert_eq!(mesh.behind.exchanges.load(Ordering::SeqCst), 1);
    let seen = mesh.behind.last_headers("/GetTask");
    assert!(seen["authorization"].to_str().unwrap().starts_with("Bearer ey"));
    let seen = mesh.behind.last_headers("/ExchangeToken");
    assert!(seen["authorization"].to_str().unwrap().starts_with("Bearer ey"), "the gateway's own");
}

#[tokio::test]
async fn a_jwt_is_renewed_before_it_ends_and_not_used_after() {
    let mesh = Mesh::start(Reached::Locally).await;
    mesh.get("task_1", "fds_1").await.unwrap();
    let first = mesh.behind.last_headers("/GetTask")["authorization"].clone();
    mesh.clock.advance(Duration::from_secs(245));
    mesh.get("task_1", "fds_1").await.unwrap();
    assert_eq!(mesh.behind.last_headers("/GetTask")["authorization"], first, "renewal is beside the call");
    bounded(mesh.behind.entered.acquire_many(2)).await.unwrap().forget();
    mesh.clock.advance(Duration::from_secs(50));
    mesh.get("task_1", "fds_1").await.unwrap();
    assert_ne!(mesh.behind.last_headers("/GetTask")["authorization"], first);
    mesh.clock.advance(Duration::from_secs(1_000));
    mesh.get("task_1", "fds_1").await.unwrap();
    assert_eq!(mesh.behind.exchanges.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_changed_role_counts_a_moment_after_an_exchange_too() {
    let mesh = Mesh::start(Reached::Locally).await;
    mesh.get("task_1", "fds_1").await.unwrap();
    mesh.behind.revision.store(9, Ordering::SeqCst);
    mesh.revocations.add(&role_key(&mesh.behind.user, &mesh.behind.organization), 9);
    mesh.clock.advance(Duration::from_millis(100));
    for _ in 0..2 {
        mesh.get("task_1", "fds_1").await.unwrap();
    }
    assert_eq!(mesh.behind.exchanges.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once_and_not_asked_for_again_and_again() {
    let mesh = Mesh::start(Reached::Locally).await;
    mesh.get("task_1", "fpat_1").await.unwrap();
    mesh.clock.advance(Duration::from_secs(2));
    mesh.behind.refused.lock().unwrap().insert("fpat_1".into());
    mesh.revocations.add(&credential_key("crd_fpat_1"), 9);
    for _ in 0..3 {
        let status = mesh.get("task_1", "fpat_1").await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "TOKEN_REVOKED"));
    }
    assert_eq!(mesh.behind.exchanges.load(Ordering::SeqCst), 2);
    assert_eq!(mesh.behind.calls("/GetTask"), 1);
    mesh.behind.refused.lock().unwrap().clear();
    mesh.clock.advance(Duration::from_secs(3));
    // Whatever auth returns: the feed of revocations has the credential.
    assert_eq!(mesh.get("task_1", "fpat_1").await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn without_the_feed_of_revocations_for_a_minute_the_edge_passes_reads_alone() {
    let mesh = Mesh::start(Reached::Locally).await;
    let change = || mesh_change(&mesh);
    mesh.revocations.feed_lost(mesh.clock.now());
    mesh.clock.advance(Duration::from_secs(59));
    change().await.unwrap();
    mesh.clock.advance(Duration::from_secs(1));
    let status = change().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "REVOCATIONS_STALE"));
    mesh.get("task_1", "fds_1").await.unwrap();
    assert_eq!(mesh.behind.calls("/CreateTask"), 1);
    // Auth has the revocations itself, and must be able to take rights away.
    let mut auth = AuthServiceClient::new(mesh.gateway.remote().unwrap());
    bounded(auth.sign_out(with_token(SignOutRequest {}, "fds_1"))).await.unwrap();
    assert_eq!(mesh.behind.calls("/SignOut"), 1);
    mesh.revocations.feed_restored();
    change().await.unwrap();
}

async fn mesh_change(mesh: &Mesh) -> Result<(), tonic::Status> {
    let request = with_token(CreateTaskRequest::default(), "fds_1");
    bounded(mesh.client().create_task(request)).await.map(drop)
}

#[tokio::test]
async fn bad_tokens_end_at_the_edge_each_with_its_reason() {
    let mesh = Mesh::start(Reached::Locally).await;
    let request = tonic::Request::new(GetTaskRequest::default());
    let missing = bounded(mesh.client().get_task(request)).await.unwrap_err();
    assert_eq!((missing.code(), reason(&missing).as_str()), (Code::Unauthenticated, "TOKEN_MISSING"));
    let service = mesh.service.token("gateway").unwrap();
    let jwt = mesh.behind.jwt("crd_1");
    let cases = [
        ("rubbish", Code::Unauthenticated, "TOKEN_MALFORMED"),
        (&jwt[..jwt.len() - 4], Code::Unauthenticated, "TOKEN_MALFORMED"),
        (&format!("fpat_{}", "x".repeat(500)), Code::Unauthenticated, "TOKEN_MALFORMED"),
        (service.as_str(), Code::PermissionDenied, "SERVICE_TOKEN_REFUSED"),
    ];
    for (token, code, why) in cases {
        let status = mesh.get("task_1", token).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, why), "{token}");
    }
    mesh.clock.advance(Duration::from_secs(400));
    assert_eq!(reason(&mesh.get("task_1", &jwt).await.unwrap_err()), "TOKEN_EXPIRED");
    assert_eq!(mesh.behind.calls("/GetTask"), 0);
}

#[tokio::test]
async fn methods_for_services_are_closed_to_users() {
    let mesh = Mesh::start(Reached::Locally).await;
    let mut auth = AuthServiceClient::new(mesh.gateway.remote().unwrap());
    let jwt = mesh.behind.jwt("crd_1");
    let request = with_token(ExchangeTokenRequest { token: "fpat_1".into() }, &jwt);
    assert_eq!(bounded(auth.exchange_token(request)).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(mesh.behind.exchanges.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_address_that_guesses_tokens_is_slowed_down_before_auth_is_asked() {
    let anonymous = CallerLimits { requests_per_second: 1, burst: 3, unary_calls: 9, streams: 9 };
    let mesh = Mesh::start_with(Reached::Locally, Config { anonymous, ..Config::default() }).await;
    let good = mesh.behind.jwt("crd_1");
    let mut codes = Vec::new();
    for n in 0..6 {
        let token = format!("fpat_guess{n}");
        mesh.behind.refused.lock().unwrap().insert(token.clone());
        codes.push(mesh.get("task_1", &token).await.unwrap_err().code());
    }
    assert_eq!(codes.last(), Some(&Code::ResourceExhausted), "{codes:?}");
    assert!(mesh.behind.exchanges.load(Ordering::SeqCst) <= 3);
    mesh.get("task_1", &good).await.unwrap();
}
