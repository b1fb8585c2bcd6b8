//! Request bodies and heads that no well-behaved client sends.

use std::time::Duration;

use crate::support::{BOUND, Probe, bounded, client, get, limits, prompt_drain, reason, refused};
use axum::Router;
use axum::routing::get as route;
use bytes::Bytes;
use foundry_server::Standing;
use foundry_server::testing::TestServer;
use futures::StreamExt as _;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::ServiceExt as _;

/// A connection that passes bodies on as they come.
fn channel(server: &TestServer) -> Channel {
    Endpoint::from_shared(server.url()).unwrap().connect_lazy()
}

async fn call(channel: Channel, method: &str, headers: &[(&str, &str)], body: Body) -> Response<Body> {
    let path = format!("/foundry.task.v1.TaskService/{method}");
    let mut request = Request::post(path).header("content-type", "application/grpc").body(body).unwrap();
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    bounded(channel.oneshot(request)).await.unwrap()
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat()
}

/// A message with this task id, of which the last bytes never arrive.
fn unfinished(size: usize) -> Body {
    let mut bytes = framed(&get(&"x".repeat(size)).encode_to_vec());
    bytes.truncate(size);
    let first = futures::stream::iter([Ok::<_, Status>(Frame::data(Bytes::from(bytes)))]);
    Body::new(StreamBody::new(first.chain(futures::stream::pending())))
}

#[tokio::test]
async fn a_call_that_takes_one_message_refuses_a_second_one() {
    let server = TestServer::start(Probe::default().service()).await.unwrap();
    for method in ["GetTask", "WatchTask"] {
        let two = framed(&get("echo").encode_to_vec()).repeat(2);
        let answer = call(channel(&server), method, &[], Body::new(Full::new(Bytes::from(two)))).await;
        let status = Status::from_header_map(answer.headers()).expect("refused at once");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "MALFORMED_MESSAGE"));
    }
}

#[tokio::test]
async fn a_deadline_that_cannot_be_read_is_refused() {
    let server = TestServer::start(Probe::default().service()).await.unwrap();
    let message = || Body::new(Full::new(Bytes::from(framed(&get("echo").encode_to_vec()))));
    let bad = [&[("grpc-timeout", "soon")][..], &[("grpc-timeout", "1S"), ("grpc-timeout", "2S")]];
    for headers in bad {
        for method in ["GetTask", "WatchTask"] {
            let answer = call(channel(&server), method, headers, message()).await;
            let status = Status::from_header_map(answer.headers()).expect("refused at once");
            assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
        }
    }
    let good = call(channel(&server), "GetTask", &[("grpc-timeout", "15S")], message()).await;
    assert!(!good.headers().contains_key("grpc-status"), "{:?}", good.headers());
}

#[tokio::test]
async fn large_messages_that_do_not_end_have_a_budget_and_small_ones_pass_beside_them() {
    for standing in [Standing::Identified, Standing::Anonymous] {
        let config = limits(|l| {
            // What is not budgeted of one message, and less than twice the rest.
            (l.body_bytes, l.anonymous_body_bytes) = match standing {
                Standing::Identified => (300_000, 0),
                Standing::Anonymous => (0, 300_000),
            };
            l.unary_timeout = BOUND;
        });
        let service = match standing {
            Standing::Identified => Probe::default().service(),
            Standing::Anonymous => Probe::default().service().standing_of(|_| Standing::Anonymous),
        };
        let server = TestServer::start_with(service, config, prompt_drain()).await.unwrap();
        {
            let one = std::pin::pin!(call(channel(&server), "GetTask", &[], unfinished(250_000)));
            let other = std::pin::pin!(call(channel(&server), "GetTask", &[], unfinished(250_000)));
            let (answer, _other) = futures::future::select(one, other).await.factor_first();
            let status = Status::from_header_map(answer.headers()).expect("refused at once");
            assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "LIMIT_REACHED"));
            let details = tonic_types::StatusExt::get_error_details(&status);
            let limit = &details.error_info().unwrap().metadata["limit"];
            assert!(limit.ends_with("body_bytes") && refused(&server, limit) == 1, "{limit}");

            bounded(client(server.remote().unwrap()).get_task(get("echo"))).await.unwrap();
        }
        // What both held comes back with their ends.
        let large = get(&"x".repeat(250_000));
        let mut client = client(server.remote().unwrap());
        bounded(async { while client.get_task(large.clone()).await.is_err() {} }).await;
    }
}

#[tokio::test]
async fn the_limit_on_headers_holds_over_http_1_too() {
    let routes = Router::new().route("/hello", route(|| async { "hello" }));
    let server = TestServer::start(Probe::default().service().plain_routes(routes)).await.unwrap();
    for (size, expected) in [(20, "HTTP/1.1 200"), (33, "HTTP/1.1 431"), (40, "HTTP/1.1 431")] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let fill = "x".repeat(size << 10);
        let request =
            format!("GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-fill: {fill}\r\n\r\n");
        // The server may close before it has read all.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(expected), "{size} KiB: {answer}");
    }
}
