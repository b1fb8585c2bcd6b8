//! Behind a reverse proxy: whose address counts, and what every answer carries.

use foundry_gateway::{CallerLimits, Config};
use foundry_proto::auth::v1::CompleteSignInRequest;
use foundry_proto::repo::v1::ReceiveWebhookRequest;
use http::{Request, StatusCode};
use prost::Message as _;

use crate::mesh::{Mesh, Reached, framed};
use crate::plain::{Answer, send, send_as_it_is};

const PAGE: &str = "/foundry.auth.v1.AuthService/CompleteSignIn";

/// A gateway that trusts a proxy on this machine.
fn behind_a_proxy() -> Config {
    Config { trusted_proxies: vec!["127.0.0.1".to_owned(), "10.1.0.0/16".to_owned()], ..Config::default() }
}

async fn sign_in(mesh: &Mesh, forwarded_for: &str) -> Answer {
    let request = Request::post(PAGE)
        .header("content-type", "application/grpc-web+proto")
        .header("x-forwarded-for", forwarded_for)
        .header("foundry-client-address", "192.0.2.66");
    send(mesh, request, framed(&CompleteSignInRequest::default().encode_to_vec())).await
}

/// Where the gateway says that the client of the last sign-in is.
fn said(mesh: &Mesh) -> (String, Option<String>) {
    let headers = mesh.behind.last_headers("/CompleteSignIn");
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    (text("foundry-client-peer").unwrap(), text("foundry-client-address"))
}

#[tokio::test]
async fn a_sign_in_has_the_address_of_the_client_and_not_one_that_it_invents() {
    let mesh = Mesh::start_with(Reached::Locally, behind_a_proxy()).await;
    for (header, address) in [
        ("198.51.100.4", Some("198.51.100.4")),
        ("127.0.0.1, 198.51.100.4, 10.1.0.3", Some("198.51.100.4")),
        ("[2001:db8::9]:4711", Some("2001:db8::9")),
        ("garbage", None),
    ] {
        sign_in(&mesh, header).await;
        assert_eq!(said(&mesh), ("remote".to_owned(), address.map(str::to_owned)), "{header}");
    }
    assert!(!mesh.behind.last_headers("/CompleteSignIn").contains_key("x-forwarded-for"));

    let mesh = Mesh::start(Reached::Locally).await;
    sign_in(&mesh, "198.51.100.4").await;
    assert_eq!(said(&mesh), ("remote".to_owned(), None), "this proxy is not configured");
}

#[tokio::test]
async fn one_client_at_its_limit_keeps_no_other_out_behind_the_same_proxy() {
    let anonymous = CallerLimits { requests_per_second: 1, burst: 1, unary_calls: 9, streams: 1 };
    let mesh = Mesh::start_with(Reached::Locally, Config { anonymous, ..behind_a_proxy() }).await;
    let status = |answer: Answer| answer.header("grpc-status").to_owned();
    assert_ne!(status(sign_in(&mesh, "198.51.100.4").await), "8");
    // Whatever it writes in front of its own address.
    assert_eq!(status(sign_in(&mesh, "203.0.113.1, 198.51.100.4:80").await), "8");
    assert_ne!(status(sign_in(&mesh, "198.51.100.5").await), "8");
    assert_eq!(mesh.behind.calls("/CompleteSignIn"), 2);
}

#[tokio::test]
async fn a_delivery_has_the_address_of_its_host() {
    let mesh = Mesh::start_with(Reached::Locally, behind_a_proxy()).await;
    let request = Request::post("/webhooks/github/rwh_1")
        .header("content-type", "application/json")
        .header("x-forwarded-for", "10.9.9.9, 198.51.100.4");
    assert_eq!(send(&mesh, request, "{}").await.status, StatusCode::OK);
    let body = mesh.behind.bodies.lock().unwrap()[0].clone();
    assert_eq!(ReceiveWebhookRequest::decode(body).unwrap().peer_address, "198.51.100.4");
}

#[tokio::test]
async fn every_answer_is_protected() {
    let mesh = Mesh::start_with(Reached::Locally, behind_a_proxy()).await;
    for (method, path, content_type) in [
        ("GET", "/", ""),
        ("GET", "/healthz", ""),
        ("GET", "/auth/ways", ""),
        ("POST", "/auth/begin/x", "application/json"),
        ("GET", "/auth/callback/x?state=1", ""),
        ("GET", "/git/acme/web/info/refs?service=git-upload-pack", ""),
        ("GET", "/git/acme/web/info/refs", ""),
        ("GET", "/webhooks/github/rwh_1", ""),
        ("POST", "/webhooks/github/rwh_1", "application/json"),
        ("GET", "/absent", ""),
        ("DELETE", "/", ""),
        ("OPTIONS", PAGE, ""),
        ("POST", PAGE, "application/grpc-web+json"),
        ("POST", PAGE, "application/grpc-web+proto"),
        ("POST", "/foundry.task.v1.TaskService/GetTask", "application/grpc-web+proto"),
    ] {
        let request = |proto: &str| {
            let request = Request::builder().method(method).uri(path).header("x-forwarded-proto", proto);
            if content_type.is_empty() { request } else { request.header("content-type", content_type) }
        };
        let answer = send_as_it_is(&mesh, request("http").header("host", "127.0.0.1"), "").await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{method} {path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{method} {path}");
        let is_call = answer.header("content-type").starts_with("application/grpc");
        let policy = answer.header("content-security-policy");
        assert!(is_call || policy.starts_with("default-src 'none'"), "{method} {path}: {policy}");
        assert_eq!(answer.header("strict-transport-security"), "", "{method} {path}");
        let secure = send_as_it_is(&mesh, request("https").header("host", "127.0.0.1"), "").await;
        assert_eq!(secure.header("strict-transport-security"), "max-age=31536000", "{method} {path}");
    }
}
