//! Browsers and plain HTTP on the same port, sent by hand over HTTP/1.1.

use bytes::Bytes;
use foundry_proto::edge::v1::watch_response::Body;
use foundry_proto::edge::v1::{WatchRequest, WatchResponse};
use foundry_proto::task::v1::{GetTaskRequest, GetTaskResponse};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::browser::watch;
use crate::mesh::{Mesh, Reached, bounded, framed};
use crate::plain::send;

const GET_TASK: &str = "/foundry.task.v1.TaskService/GetTask";
const PAGE: &str = "http://localhost:5173";

fn call(content_type: &str, token: &str) -> http::request::Builder {
    Request::builder()
        .method(Method::POST)
        .uri(GET_TASK)
        .header("content-type", content_type)
        .header("x-grpc-web", "1")
        .header("origin", PAGE)
        .header("authorization", format!("Bearer {token}"))
}

fn task(id: &str) -> Bytes {
    framed(&GetTaskRequest { task_id: id.into() }.encode_to_vec())
}

#[tokio::test]
async fn a_page_calls_over_http_1_with_and_without_a_charset() {
    for reached in [Reached::Locally, Reached::Remotely] {
        let mesh = Mesh::start(reached).await;
        let jwt = mesh.behind.jwt("crd_1");
        for content_type in ["application/grpc-web+proto", "application/grpc-web; charset=utf-8"] {
            let answer = send(&mesh, call(content_type, &jwt), task("task_1")).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("content-type"), "application/grpc-web+proto");
            assert_eq!(answer.header("access-control-allow-origin"), PAGE);
            let exposed = answer.header("access-control-expose-headers");
            assert!(exposed.contains("grpc-status-details-bin") && exposed.contains("grpc-message"));
            let length = usize::try_from(u32::from_be_bytes(answer.body[1..5].try_into().unwrap())).unwrap();
            let message = GetTaskResponse::decode(&answer.body[5..5 + length]).unwrap();
            assert_eq!(message.task.unwrap().task_id, "task_1");
            let trailers = &answer.body[5 + length..];
            assert_eq!(trailers[0], 0x80);
            assert!(String::from_utf8_lossy(&trailers[5..]).contains("grpc-status:0"));
        }
        assert_eq!(mesh.behind.last_headers("/GetTask")["content-type"], "application/grpc");
        assert!(!mesh.behind.last_headers("/GetTask").contains_key("origin"));
    }
}

#[tokio::test]
async fn a_page_watches_over_http_1_and_gets_each_frame_when_it_comes() {
    let mesh = Mesh::start(Reached::Locally).await;
    let stream = tokio::net::TcpStream::connect(mesh.gateway.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    mesh.tasks.spawn("connection", async move {
        let _ = connection.await;
    });
    let request = WatchRequest { subscriptions: vec![watch(1, "task_1", None)], heartbeat: None };
    let request = call("application/grpc-web+proto", "fds_1")
        .uri("/foundry.edge.v1.EdgeService/Watch")
        .header("host", "localhost")
        .body(Full::new(framed(&request.encode_to_vec())))
        .unwrap();
    let mut body = bounded(sender.send_request(request)).await.unwrap().into_body();
    let mut received = Vec::new();
    let mut messages = Vec::new();
    while !messages.iter().any(|m: &WatchResponse| matches!(m.body, Some(Body::Frames(_)))) {
        let frame = bounded(body.frame()).await.unwrap().unwrap();
        received.extend_from_slice(&frame.into_data().unwrap());
        while let Some(length) = received.get(1..5) {
            let end = 5 + usize::try_from(u32::from_be_bytes(length.try_into().unwrap())).unwrap();
            let Some(message) = received.get(5..end) else { break };
            messages.push(WatchResponse::decode(message).unwrap());
            received.drain(..end);
        }
    }
    assert!(matches!(&messages[0].body, Some(Body::Hello(hello)) if hello.stream_id.len() == 32));
}

#[tokio::test]
async fn a_page_reads_a_refusal_of_the_edge_and_one_of_the_service() {
    let mesh = Mesh::start(Reached::Locally).await;
    let jwt = mesh.behind.jwt("crd_1");
    for (token, id, status) in [("rubbish", "task_1", "16"), (jwt.as_str(), "absent", "5")] {
        let answer = send(&mesh, call("application/grpc-web+proto", token), task(id)).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("grpc-status"), status);
        assert!(!answer.header("grpc-status-details-bin").is_empty());
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
    }
}

#[tokio::test]
async fn a_preflight_allows_what_grpc_web_sends_from_known_origins_alone() {
    let mesh = Mesh::start(Reached::Locally).await;
    let preflight = |origin: &str| {
        Request::builder()
            .method(Method::OPTIONS)
            .uri(GET_TASK)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,x-grpc-web,grpc-timeout")
    };
    let allowed = send(&mesh, preflight(PAGE), "").await;
    assert_eq!(allowed.header("access-control-allow-origin"), PAGE);
    let headers = allowed.header("access-control-allow-headers");
    for name in ["authorization", "content-type", "x-grpc-web", "x-user-agent", "grpc-timeout"] {
        assert!(headers.contains(name), "{name} in {headers}");
    }
    let stranger = send(&mesh, preflight("https://evil.example"), "").await;
    assert_eq!(stranger.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn malformed_and_mistyped_requests_get_a_clean_answer_and_the_next_one_is_served() {
    let mesh = Mesh::start(Reached::Remotely).await;
    let jwt = mesh.behind.jwt("crd_1");
    let mistyped = [
        ("application/grpc-web+json", StatusCode::UNSUPPORTED_MEDIA_TYPE, "CONTENT_TYPE_UNSUPPORTED"),
        ("application/grpcs", StatusCode::UNSUPPORTED_MEDIA_TYPE, "CONTENT_TYPE_UNSUPPORTED"),
        ("application/json", StatusCode::UNSUPPORTED_MEDIA_TYPE, "CONTENT_TYPE_UNSUPPORTED"),
        ("application/grpc", StatusCode::UPGRADE_REQUIRED, "HTTP2_REQUIRED"),
    ];
    for (content_type, status, reason) in mistyped {
        let answer = send(&mesh, call(content_type, &jwt), task("task_1")).await;
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, problem["reason"].as_str()), (status, Some(reason)), "{content_type}");
    }
    let malformed: [(&str, &[u8]); 5] = [
        ("application/grpc-web", b"\x09\x00\x00\x00\x01x"),
        ("application/grpc-web", b"\x00\x00\x00\x00\x09short"),
        ("application/grpc-web", b"\x00\x00"),
        ("application/grpc-web", b"\x00\x00\x00\x00\x02\xff\xff"),
        ("application/grpc-web-text", b"!!!! no base64"),
    ];
    for (content_type, body) in malformed {
        let answer = send(&mesh, call(content_type, &jwt), body).await;
        assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, "3"), "{body:?}");
        assert!(!answer.header("grpc-status-details-bin").is_empty(), "{body:?}");
    }
    let answer = send(&mesh, call("application/grpc-web", &jwt), task("task_1")).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, ""));
}

#[tokio::test]
async fn plain_pages_live_beside_grpc() {
    let mesh = Mesh::start(Reached::Locally).await;
    let get = |path: &str| Request::builder().uri(path.to_owned());
    let about = send(&mesh, get("/"), "").await;
    assert_eq!(about.status, StatusCode::OK);
    assert!(String::from_utf8_lossy(&about.body).contains("foundry login"));
    bounded(async {
        // The first health check runs concurrently with the start.
        while send(&mesh, get("/healthz"), "").await.status != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let html = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";
    for place in ["/", "/o/org_1/t/task_1", "/sign-in"] {
        let page = send(&mesh, get(place).header("accept", html), "").await;
        assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
        assert!(page.header("content-security-policy").starts_with("default-src 'none'"), "{place}");
        let head = send(&mesh, get(place).method(Method::HEAD).header("accept", html), "").await;
        assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
        assert_eq!(head.header("content-length"), page.header("content-length"));
    }
    // For an unknown path, people get the page and programs JSON.
    for nothing in ["/nothing", "/o"] {
        let page = send(&mesh, get(nothing).header("accept", html), "").await;
        let answered = (page.status, page.header("content-type"));
        assert_eq!(answered, (StatusCode::NOT_FOUND, "text/html; charset=utf-8"), "{nothing}");
        assert!(page.header("content-security-policy").starts_with("default-src 'none'"), "{nothing}");
    }
    for other in ["/../etc/passwd", "/assets/absent.js"] {
        let answer = send(&mesh, get(other).header("accept", html), "").await;
        assert_eq!(answer.header("content-type"), "application/json", "{other}");
    }
    let nothing = send(&mesh, get("/nothing"), "").await;
    assert_eq!((nothing.status, nothing.header("content-type")), (StatusCode::NOT_FOUND, "application/json"));
    let posted = send(&mesh, get("/").method(Method::POST), "").await;
    assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn reflection_lists_the_services_behind_it() {
    let mesh = Mesh::start(Reached::Locally).await;
    let mut client = ServerReflectionClient::new(mesh.gateway.remote().unwrap());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = bounded(client.server_reflection_info(futures::stream::iter([request]))).await.unwrap();
    let answer = bounded(answers.into_inner().message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list: {answer:?}")
    };
    let names: Vec<_> = list.service.iter().map(|s| s.name.as_str()).collect();
    assert!(names.contains(&"foundry.task.v1.TaskService") && names.contains(&"foundry.auth.v1.AuthService"));
    assert!(names.contains(&"foundry.edge.v1.EdgeService"), "the gateway's own");
    assert!(!names.contains(&"foundry.provisioner.v1.ProvisionerService"), "it is not behind this gateway");
}
