//! Deliveries of webhooks at the edge: what gets to the repo service, and what does not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use foundry_core::Tasks;
use foundry_gateway::{CallerLimits, Config};
use foundry_proto::repo::v1::ReceiveWebhookRequest;
use http::{Request, StatusCode};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::mesh::{Mesh, Reached, bounded};
use crate::plain::{Answer, send};

const PATH: &str = "/webhooks/github/rwh_1";

fn post(path: &str) -> http::request::Builder {
    Request::post(path).header("content-type", "application/json")
}

async fn deliver(mesh: &Mesh, path: &str, body: &'static str) -> Answer {
    send(mesh, post(path).header("x-github-event", "push"), body).await
}

fn said(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn received(mesh: &Mesh) -> Vec<ReceiveWebhookRequest> {
    let bodies = mesh.behind.bodies.lock().unwrap();
    bodies.iter().map(|body| ReceiveWebhookRequest::decode(body.clone()).unwrap()).collect()
}

#[tokio::test]
async fn a_delivery_arrives_byte_for_byte_with_the_headers_of_forges_alone_and_the_gateways_identity() {
    let mesh = Mesh::start(Reached::Remotely).await;
    let request = Request::post(PATH)
        .header("content-type", "application/json; charset=utf-8")
        .header("x-github-event", "push")
        .header("x-hub-signature-256", "sha256=00")
        .header("x-gitlab-token", "t")
        .header("x-gitlab-token", "u")
        .header("authorization", "Bearer fds_1")
        .header("cookie", "a=b")
        .header("foundry-client-page", "own")
        .header("x-github-delivery", "x".repeat(2_000));
    let answer = send(&mesh, request, " { \"a\" :1}\n").await;
    assert_eq!(
        (answer.status, said(&answer)),
        (StatusCode::OK, serde_json::json!({"result": "unspecified", "duplicate": false}))
    );
    let got = received(&mesh).remove(0);
    assert_eq!((got.forge.as_str(), got.repository_webhook_id.as_str()), ("github", "rwh_1"));
    assert_eq!(got.peer_address, "127.0.0.1");
    assert_eq!(got.body, " { \"a\" :1}\n".as_bytes());
    let mut names: Vec<_> = got.headers.iter().map(|h| (h.name.as_str(), h.value.as_str())).collect();
    let expected = [
        ("x-github-event", "push"),
        ("x-gitlab-token", "t"),
        ("x-gitlab-token", "u"),
        ("x-hub-signature-256", "sha256=00"),
    ];
    names.sort_unstable();
    assert_eq!(names, expected);
    let headers = mesh.behind.last_headers("ReceiveWebhook");
    let authorization = headers["authorization"].to_str().unwrap();
    assert!(!authorization.contains("fds_1") && !headers.contains_key("cookie"), "{headers:?}");
    assert!(!headers.contains_key("foundry-client-page"));
}

#[tokio::test]
async fn what_can_be_no_delivery_is_refused_before_the_service_is_asked() {
    let mesh = Mesh::start(Reached::Locally).await;
    let form = Request::post(PATH).header("content-type", "application/x-www-form-urlencoded");
    let zipped = post(PATH).header("content-encoding", "gzip");
    for (request, body, status, reason) in [
        (Request::get(PATH), Vec::new(), 405, "METHOD_NOT_ALLOWED"),
        (Request::post(PATH), b"{}".to_vec(), 415, "CONTENT_TYPE_UNSUPPORTED"),
        (form, b"payload=%7B%7D".to_vec(), 415, "CONTENT_TYPE_UNSUPPORTED"),
        (zipped, b"{}".to_vec(), 415, "CONTENT_TYPE_UNSUPPORTED"),
        (post("/webhooks/github"), b"{}".to_vec(), 404, "NOT_FOUND"),
    ] {
        let answer = send(&mesh, request, body).await;
        assert_eq!((answer.status.as_u16(), said(&answer)["reason"].as_str()), (status, Some(reason)));
    }
    assert_eq!(mesh.behind.calls("ReceiveWebhook"), 0);
    let largest = send(&mesh, post(PATH), vec![b' '; 3 << 20]).await;
    assert_eq!((largest.status, received(&mesh)[0].body.len()), (StatusCode::OK, 3 << 20));
}

/// Sends the head of a delivery, and returns the connection.
async fn begun(mesh: &Mesh, header: &str) -> TcpStream {
    let mut stream = TcpStream::connect(mesh.gateway.address).await.unwrap();
    let head =
        format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{header}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_body_is_bounded_by_its_announced_length_and_without_one() {
    let mesh = Mesh::start(Reached::Locally).await;
    let mut text = vec![0; 12];
    let mut stream = begun(&mesh, "content-length: 3145729").await;
    bounded(stream.read_exact(&mut text)).await.unwrap();
    assert_eq!(text, b"HTTP/1.1 413");
    let (mut from, mut to) = begun(&mesh, "transfer-encoding: chunked").await.into_split();
    let (tasks, _) = Tasks::new();
    tasks.spawn("endless body", async move {
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
        while to.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    bounded(from.read_exact(&mut text)).await.unwrap();
    assert_eq!(text, b"HTTP/1.1 413");
    assert_eq!(mesh.behind.calls("ReceiveWebhook"), 0);
}

#[tokio::test]
async fn a_host_is_answered_in_time_with_a_reason_while_the_delivery_is_still_being_stored() {
    let config = Config { webhook_answer: Duration::from_millis(50), ..Config::default() };
    let mesh = Mesh::start_with(Reached::Locally, config).await;
    // As many as the service has at a time, and one that gets no turn.
    let slow =
        futures::future::join_all((0..65).map(|_| deliver(&mesh, "/webhooks/github/slow", "{}"))).await;
    let reasons: Vec<String> = slow
        .iter()
        .map(|answer| {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
            said(answer)["reason"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(reasons.iter().filter(|reason| *reason == "WEBHOOK_SLOW").count(), 64, "{reasons:?}");
    assert_eq!(reasons.iter().filter(|reason| *reason == "WEBHOOK_BUSY").count(), 1, "{reasons:?}");
    // None was broken off: each is stored in the end, and gives its place back.
    mesh.behind.release.cancel();
    bounded(mesh.behind.entered.acquire_many(64)).await.unwrap().forget();
    assert_eq!(deliver(&mesh, PATH, "{}").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_error_of_the_service_keeps_its_reason_and_guessing_counts_against_the_address() {
    let anonymous = CallerLimits { requests_per_second: 1, burst: 3, unary_calls: 9, streams: 9 };
    let mesh = Mesh::start_with(Reached::Locally, Config { anonymous, ..Config::default() }).await;
    for (path, status) in [("/webhooks/github/absent", 404), ("/webhooks/github/forged", 401)] {
        let answer = deliver(&mesh, path, "{}").await;
        assert_eq!(
            (answer.status.as_u16(), said(&answer)["reason"].as_str()),
            (status, Some("WEBHOOK_REFUSED"))
        );
    }
    deliver(&mesh, "/webhooks/github/absent", "{}").await;
    assert_eq!(deliver(&mesh, "/webhooks/github/absent", "{}").await.status, StatusCode::TOO_MANY_REQUESTS);
    // The service is not asked, and no body is read, until there is room again.
    let calls = mesh.behind.calls("ReceiveWebhook");
    assert_eq!(deliver(&mesh, PATH, "{}").await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(mesh.behind.calls("ReceiveWebhook"), calls);
    mesh.clock.advance(Duration::from_secs(1));
    // A delivery that is accepted is no guess.
    for _ in 0..5 {
        assert_eq!(deliver(&mesh, PATH, "{}").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn many_guesses_at_once_are_no_way_past_the_limit_of_an_address() {
    let anonymous = CallerLimits { requests_per_second: 1, burst: 3, unary_calls: 9, streams: 9 };
    let mesh = Mesh::start_with(Reached::Locally, Config { anonymous, ..Config::default() }).await;
    let guesses = (0..20).map(|_| deliver(&mesh, "/webhooks/github/absent", "{}"));
    let answers = futures::future::join_all(guesses).await;
    let refused = answers.iter().filter(|it| it.status == StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!((refused, mesh.behind.calls("ReceiveWebhook")), (17, 3));
}

#[tokio::test]
async fn one_webhook_at_its_rate_does_not_slow_another() {
    let webhook = CallerLimits { requests_per_second: 1, burst: 2, unary_calls: 9, streams: 1 };
    let mesh = Mesh::start_with(Reached::Locally, Config { webhook, ..Config::default() }).await;
    for _ in 0..2 {
        assert_eq!(deliver(&mesh, PATH, "{}").await.status, StatusCode::OK);
    }
    let refused = deliver(&mesh, PATH, "{}").await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "1"));
    assert_eq!(deliver(&mesh, "/webhooks/github/rwh_2", "{}").await.status, StatusCode::OK);
    mesh.clock.advance(Duration::from_secs(1));
    assert_eq!(deliver(&mesh, PATH, "{}").await.status, StatusCode::OK);
    assert_eq!(mesh.behind.exchanges.load(Ordering::SeqCst), 0);
}
