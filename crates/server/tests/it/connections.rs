//! The listener's handling of connections: both protocols on one port, silence, limits.

use std::time::Duration;

use crate::support::{Probe, bounded, client, get, limits, prompt_drain, watch};
use axum::Router;
use axum::routing::get as route;
use bytes::Bytes;
use foundry_server::Exit;
use foundry_server::config::DrainConfig;
use foundry_server::testing::TestServer;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn talk(server: &TestServer, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    bounded(stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

fn hello() -> Router {
    Router::new()
        .route("/hello", route(|| async { "hello" }))
        .route("/panic", route(|| async { if true { panic!("planted") } else { "" } }))
}

#[tokio::test]
async fn plain_routes_and_grpc_share_a_port_over_both_protocols() {
    let server = TestServer::start(Probe::default().service().plain_routes(hello())).await.unwrap();

    let answer = talk(&server, b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    assert!(answer.contains("x-request-id: "), "{answer}");

    let io = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let request = http::Request::get(format!("{}/hello", server.url())).body(Empty::<Bytes>::new()).unwrap();
    let call = async {
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_2);
        answer.into_body().collect().await.unwrap().to_bytes()
    };
    let body = bounded(async {
        tokio::select! { body = call => body, _ = connection => panic!("closed") }
    })
    .await;
    assert_eq!(body, "hello");

    bounded(client(server.remote().unwrap()).get_task(get("echo"))).await.unwrap();
}

#[tokio::test]
async fn a_panicking_plain_route_answers_500_and_a_grpc_only_port_says_what_it_speaks() {
    let server = TestServer::start(Probe::default().service().plain_routes(hello())).await.unwrap();
    let answer = talk(&server, b"GET /panic HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with(b"HTTP/1.1 500"), "{}", String::from_utf8_lossy(&answer));

    let server = TestServer::start(Probe::default().service()).await.unwrap();
    let answer = talk(&server, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with(b"HTTP/1.1 415"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn grpc_web_is_spoken_over_http_1_only_where_asked_for_and_leaves_plain_routes_alone() {
    let message = get("echo").encode_to_vec();
    let mut request = format!(
        "POST /foundry.task.v1.TaskService/GetTask HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/grpc-web+proto\r\ncontent-length: {}\r\n\r\n",
        message.len() + 5
    )
    .into_bytes();
    request.push(0);
    request.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    request.extend(message);

    let edge = TestServer::start(Probe::default().service().grpc_web().plain_routes(hello())).await.unwrap();
    let answer = String::from_utf8_lossy(&talk(&edge, &request).await).into_owned();
    assert!(answer.contains("application/grpc-web+proto") && answer.contains("grpc-status:0"), "{answer}");
    let plain = talk(&edge, b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(plain.starts_with(b"HTTP/1.1 200"));

    let inner = TestServer::start(Probe::default().service()).await.unwrap();
    let answer = String::from_utf8_lossy(&talk(&inner, &request).await).into_owned();
    assert!(!answer.contains("grpc-status:0"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_or_half_a_preface_is_closed() {
    let config = limits(|l| l.header_timeout = Duration::from_millis(100));
    let server = TestServer::start_with(Probe::default().service(), config, prompt_drain()).await.unwrap();
    for said in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"GET /hello HTTP/1.1\r\nhos"] {
        // Reads to the end: returns only because the server closes.
        let answer = talk(&server, said).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{said:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_connection_that_floods_with_control_frames_is_closed_and_others_are_served() {
    let server = TestServer::start(Probe::default().service()).await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0], &[0; 8][..]].concat();
    let priority = [&[0, 0, 5, 2, 0, 0, 0, 0, 1], &[0; 5][..]].concat();
    let window = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1].to_vec();
    for (name, frame) in
        [("SETTINGS", settings.to_vec()), ("PING", ping), ("PRIORITY", priority), ("WINDOW_UPDATE", window)]
    {
        let (mut answers, mut requests) = TcpStream::connect(server.address).await.unwrap().into_split();
        let flood = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &frame.repeat(20_000)].concat();
        // Ends only because the server closes; it may do so while the flood is being written.
        let (_, ended) = tokio::join!(
            requests.write_all(&flood),
            tokio::time::timeout(Duration::from_secs(30), async {
                let mut into = vec![0; 64 << 10];
                while answers.read(&mut into).await.is_ok_and(|read| read > 0) {}
            })
        );
        assert!(ended.is_ok(), "{name} frames were accepted without end");
        bounded(client(server.remote().unwrap()).get_task(get("echo"))).await.unwrap();
    }
}

#[tokio::test]
async fn silent_connections_do_not_hold_up_a_stop() {
    // Far beyond the length of a test: whatever delays the stop would delay it for ever.
    let long = Duration::from_secs(3_600);
    let drain = DrainConfig { watches: long, unary: long, total: long, ..prompt_drain() };
    let config = limits(|l| l.header_timeout = long);
    let server = TestServer::start_with(Probe::default().service(), config, drain).await.unwrap();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0").await.unwrap();
    // Served after both, so both were accepted.
    bounded(client(server.remote().unwrap()).get_task(get("echo"))).await.unwrap();

    assert_eq!(bounded(server.stop()).await, Exit::Clean);
    for stream in [&mut silent, &mut half] {
        let mut rest = Vec::new();
        // Closed or reset: gone either way.
        let _ = bounded(stream.read_to_end(&mut rest)).await;
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn one_unread_stream_does_not_stall_calls_on_its_connection() {
    let server = TestServer::start(Probe::default().service()).await.unwrap();
    let channel = tonic::transport::Endpoint::from_shared(server.url())
        .unwrap()
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(16 << 20)
        .connect_lazy();
    let mut client = foundry_proto::task::v1::task_service_client::TaskServiceClient::new(channel);
    let mut unread = Vec::new();
    for _ in 0..3 {
        unread.push(bounded(client.watch_task(watch("endless"))).await.unwrap());
    }
    bounded(client.get_task(get("echo"))).await.unwrap();
    assert_eq!(unread.len(), 3);
}

#[tokio::test]
async fn a_unary_call_goes_through_after_the_server_was_restarted_under_an_open_stream() {
    let first =
        TestServer::start_with(Probe::default().service(), limits(|_| {}), prompt_drain()).await.unwrap();
    let (address, upstream) = (first.address, first.remote().unwrap());
    let mut client = client(upstream);
    bounded(client.get_task(get("echo"))).await.unwrap();
    let _stream = bounded(client.watch_task(watch("t"))).await.unwrap();
    assert_eq!(bounded(first.stop()).await, Exit::Clean);

    let mut config = limits(|_| {});
    config.listen = address;
    let _second = TestServer::start_with(Probe::default().service(), config, prompt_drain()).await.unwrap();
    bounded(client.get_task(get("echo"))).await.unwrap();
    bounded(client.watch_task(watch("t"))).await.unwrap();
}

#[tokio::test]
async fn more_streams_than_one_connection_carries_are_open_at_the_same_time() {
    let server = TestServer::start(Probe::default().service()).await.unwrap();
    let client = client(server.remote().unwrap());
    let open = |_| async {
        let mut client = client.clone();
        let mut stream = bounded(client.watch_task(watch("t"))).await.unwrap().into_inner();
        assert_eq!(bounded(stream.message()).await.unwrap().unwrap().seq, 1);
        stream
    };
    let open = futures::future::join_all((0..300).map(open)).await;
    assert_eq!(open.len(), 300);
}

#[tokio::test]
async fn calls_and_streams_travel_on_connections_of_their_own() {
    let server = TestServer::start(Probe::default().service()).await.unwrap();
    let mut client = client(server.remote().unwrap());
    let _stream = bounded(client.watch_task(watch("t"))).await.unwrap();
    bounded(client.get_task(get("echo"))).await.unwrap();
    let text = server.metrics.prometheus_text();
    assert!(text.contains("foundry_connections{service=\"task\"} 2"), "{text}");
}

#[tokio::test]
async fn no_call_fails_while_one_server_hands_over_to_the_next() {
    let old = Probe::default();
    let first = TestServer::start_with(old.service(), limits(|_| {}), prompt_drain()).await.unwrap();
    let mut config = limits(|_| {});
    config.listen = first.address;
    let mut client = client(first.remote().unwrap());

    // A call in progress keeps the connection open after its GOAWAY.
    let mut caller = client.clone();
    let slow = caller.get_task(get("hang"));
    let hand_over = async {
        old.entered().await;
        first.signal().stop();
        let second = loop {
            // The address is free once the first server accepts no more.
            match TestServer::start_with(Probe::default().service(), config.clone(), prompt_drain()).await {
                Ok(second) => break second,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        // Before, at and after the GOAWAY: each call is answered by one server or the other.
        while !second.metrics.prometheus_text().contains("foundry_requests_total") {
            client.get_task(get("echo")).await.unwrap();
        }
        old.release();
        first.ended().await
    };
    let (slow, exit) = bounded(Box::pin(async { tokio::join!(slow, hand_over) })).await;
    slow.unwrap();
    assert_eq!(exit, Exit::Clean);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = TestServer::start(Probe::default().service()).await.unwrap();
    let mut config = limits(|_| {});
    config.listen = first.address;
    let second = TestServer::start_with(Probe::default().service(), config, prompt_drain()).await;
    let Err(error) = second else { panic!("two listeners on {}", first.address) };
    assert_eq!(error.reason(), "ADDRESS_UNAVAILABLE");
    assert!(error.message().contains(&first.address.to_string()), "{}", error.message());
}
