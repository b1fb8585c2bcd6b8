//! The stack's handling of single requests, over a socket and without one.

use std::time::Duration;

use crate::support::{
    BOUND, Probe, SERVICE, SHARED, bounded, client, get, limits, prompt_drain, reason, refused, watch,
};
use bytes::Bytes;
use foundry_core::{Env, Tasks};
use foundry_proto::repo::v1::ImportWorkRequest;
use foundry_proto::repo::v1::repo_service_client::RepoServiceClient;
use foundry_server::testing::TestServer;
use foundry_server::{RequestContext, Routed, Standing, Upstream};
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tonic::body::Body;
use tonic::{Code, Request};
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

/// Authentication that nobody passes.
fn denied(_inner: Routed) -> Routed {
    BoxCloneSyncService::new(tower::service_fn(|_: http::Request<tonic::body::Body>| async {
        Ok::<_, std::convert::Infallible>(tonic::Status::unauthenticated("who are you").into_http())
    }))
}

async fn both(server: &TestServer) -> [Upstream; 2] {
    [server.local.clone(), server.remote().unwrap()]
}

#[tokio::test]
async fn a_local_upstream_answers_like_a_remote_one() {
    let config = limits(|l| {
        l.message_bytes = 1_000;
        l.unary_timeout = Duration::from_millis(150);
    });
    let server = TestServer::start_with(Probe::default().service(), config, prompt_drain()).await.unwrap();
    let long = "x".repeat(1_001);
    let mut seen = Vec::new();
    for upstream in both(&server).await {
        let mut answers = Vec::new();
        for task_id in ["echo", "absent", "panic", "hang", &long] {
            let answer = bounded(client(upstream.clone()).get_task(get(task_id))).await;
            answers.push(match answer {
                Ok(answer) => format!("OK {}", answer.into_inner().task.unwrap().task_id),
                Err(status) => format!("{:?} {} {}", status.code(), reason(&status), status.message()),
            });
        }
        let unknown =
            bounded(client(upstream).kill_task(foundry_proto::task::v1::KillTaskRequest::default())).await;
        answers.push(format!("{:?}", unknown.unwrap_err().code()));
        seen.push(answers);
    }
    assert_eq!(seen[0], seen[1]);
    let expected = [
        "OK echo",
        "NotFound NOT_FOUND",
        "Internal INTERNAL",
        "DeadlineExceeded DEADLINE_EXCEEDED",
        "ResourceExhausted MESSAGE_TOO_LARGE",
        "Unimplemented",
    ];
    for (answer, expected) in seen[0].iter().zip(expected) {
        assert!(answer.starts_with(expected), "{answer} is not {expected}");
    }
    assert!(!seen[0][2].contains("planted"), "a panic's text stays inside");
}

#[tokio::test]
async fn a_callers_shorter_deadline_counts() {
    let server = TestServer::start(Probe::default().service()).await.unwrap();
    for upstream in both(&server).await {
        let mut request = Request::new(get("hang"));
        // As a header only: the client's own timer must not be what ends the call.
        request.metadata_mut().insert("grpc-timeout", "50m".parse().unwrap());
        let status = bounded(client(upstream).get_task(request)).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    }
}

#[tokio::test]
async fn a_stream_outlives_the_deadline_of_unary_calls() {
    let config = limits(|l| l.unary_timeout = Duration::from_millis(50));
    let server = TestServer::start_with(Probe::default().service(), config, prompt_drain()).await.unwrap();
    for upstream in both(&server).await {
        let mut client = client(upstream);
        let mut frames = bounded(client.watch_task(watch("t"))).await.unwrap().into_inner();
        assert_eq!(bounded(frames.message()).await.unwrap().unwrap().seq, 1);
        // Two unary calls run into their deadline while the stream stays open.
        for _ in 0..2 {
            assert_eq!(
                bounded(client.get_task(get("hang"))).await.unwrap_err().code(),
                Code::DeadlineExceeded
            );
        }
        let next = tokio::time::timeout(Duration::from_millis(1), frames.message()).await;
        assert!(next.is_err(), "the stream is open and silent");
    }
}

#[tokio::test]
async fn an_upload_outlives_the_deadline_of_unary_calls() {
    let config = limits(|l| l.unary_timeout = Duration::from_millis(50));
    let server = TestServer::start_with(Probe::default().service(), config, prompt_drain()).await.unwrap();
    for upstream in both(&server).await {
        let (parts, incoming) = tokio::sync::mpsc::channel(1);
        let mut uploads = RepoServiceClient::new(upstream.clone());
        let upload = uploads.import_work(tokio_stream::wrappers::ReceiverStream::new(incoming));
        let rest = async {
            parts.send(ImportWorkRequest::default()).await.unwrap();
            // Two unary calls reach their deadline while the upload continues.
            let mut client = client(upstream);
            for _ in 0..2 {
                assert_eq!(client.get_task(get("hang")).await.unwrap_err().code(), Code::DeadlineExceeded);
            }
            parts.send(ImportWorkRequest::default()).await.unwrap();
            drop(parts);
        };
        let (answer, ()) = bounded(Box::pin(async { tokio::join!(upload, rest) })).await;
        assert_eq!(answer.unwrap().into_inner().rev, 2);
    }
}

#[tokio::test]
async fn overload_is_shed_and_health_still_answers() {
    let probe = Probe::default();
    let config = limits(|l| {
        l.unary_calls = 1;
        l.streams = 1;
    });
    let server = TestServer::start_with(probe.service(), config, prompt_drain()).await.unwrap();
    let mut client = client(server.remote().unwrap());

    let mut hanging = client.clone();
    let first = hanging.get_task(get("hang"));
    let others = async {
        probe.entered().await;
        let shed = client.get_task(get("echo")).await.unwrap_err();
        assert_eq!((shed.code(), reason(&shed).as_str()), (Code::Unavailable, "OVERLOADED"));
        let mut health = tonic_health::pb::health_client::HealthClient::new(server.local.clone());
        health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();

        let frames = client.watch_task(watch("t")).await.unwrap();
        let second = client.watch_task(watch("t")).await.unwrap_err();
        assert_eq!((second.code(), reason(&second).as_str()), (Code::ResourceExhausted, "LIMIT_REACHED"));
        drop(frames);
        probe.release();
    };
    let (first, ()) = Box::pin(bounded(async { tokio::join!(first, others) })).await;
    first.unwrap();
    assert_eq!(["unary_calls", "streams"].map(|limit| refused(&server, limit)), [1, 1]);
    // The permit came back with the end of the first call.
    bounded(client.get_task(get("echo"))).await.unwrap();
}

#[tokio::test]
async fn a_call_without_a_valid_credential_takes_no_room_of_others() {
    let probe = Probe::default();
    let config = limits(|l| {
        l.unary_calls = 0;
        l.anonymous_calls = 1;
    });
    let service = probe.service().standing_of(|_| Standing::Anonymous);
    let server = TestServer::start_with(service, config.clone(), prompt_drain()).await.unwrap();
    let (mut hanging, mut other) = (client(server.remote().unwrap()), client(server.remote().unwrap()));
    let rest = async {
        probe.entered().await;
        let shed = other.get_task(get("echo")).await.unwrap_err();
        assert_eq!((shed.code(), reason(&shed).as_str()), (Code::Unavailable, "OVERLOADED"));
        assert_eq!(["anonymous_calls", "unary_calls"].map(|limit| refused(&server, limit)), [1, 0]);
        probe.release();
    };
    let (first, ()) = Box::pin(bounded(async { tokio::join!(hanging.get_task(get("hang")), rest) })).await;
    first.unwrap();

    // Checked before there is any question of room.
    let service = Probe::default().service().authenticated_by(tower::layer::layer_fn(denied));
    let full = TestServer::start_with(service, config, prompt_drain()).await.unwrap();
    let denied = bounded(client(full.remote().unwrap()).get_task(get("echo"))).await.unwrap_err();
    assert_eq!(denied.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn the_ids_of_a_request_cross_to_the_next_service_and_come_back() {
    let env = Env::system();
    let server = TestServer::start(Probe::default().service()).await.unwrap();
    for upstream in both(&server).await {
        let outer = RequestContext::extract(&HeaderMap::new(), &env);
        let call = async { client(upstream.clone()).get_task(get("echo")).await };
        let answer = bounded(outer.clone().scope(call)).await.unwrap();
        assert_eq!(answer.metadata().get("x-request-id").unwrap().to_str().unwrap(), &*outer.request_id);
        let task = answer.into_inner().task.unwrap();
        assert_eq!((task.title, task.branch), (outer.trace.trace_id(), outer.request_id.to_string()));
    }
}

#[tokio::test]
async fn what_a_caller_keeps_in_its_request_does_not_cross_to_another_service() {
    let server = TestServer::start(Probe::default().service()).await.unwrap();
    let mut request = Request::new(get("echo"));
    request.extensions_mut().insert(crate::support::Smuggled);
    let answer = bounded(client(server.local.clone()).get_task(request)).await.unwrap();
    assert_eq!(answer.into_inner().task.unwrap().agent, "");
}

#[tokio::test]
async fn requests_are_measured_by_method_and_code() {
    let server = TestServer::start(Probe::default().service()).await.unwrap();
    let mut client = client(server.local.clone());
    bounded(client.get_task(get("echo"))).await.unwrap();
    bounded(client.get_task(get("absent"))).await.unwrap_err();
    drop(bounded(client.watch_task(watch("t"))).await.unwrap());
    let text = server.metrics.prometheus_text();
    for line in [
        "foundry_requests_total{code=\"OK\",method=\"/foundry.task.v1.TaskService/GetTask\",service=\"task\"} 1",
        "foundry_requests_total{code=\"NOT_FOUND\",method=\"/foundry.task.v1.TaskService/GetTask\",service=\"task\"} 1",
        "foundry_requests_total{code=\"CANCELLED\",method=\"/foundry.task.v1.TaskService/WatchTask\",service=\"task\"} 1",
        "foundry_active_requests{kind=\"unary\",service=\"task\"} 0",
        "foundry_active_requests{kind=\"stream\",service=\"task\"} 0",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

/// Waits until the metrics have a line.
async fn measured(server: &TestServer, line: &str) {
    let shown = async {
        while !server.metrics.prometheus_text().contains(line) {
            tokio::task::yield_now().await;
        }
    };
    let late = tokio::time::timeout(BOUND, shown).await;
    assert!(late.is_ok(), "{line} is missing in\n{}", server.metrics.prometheus_text());
}

#[tokio::test]
async fn a_call_whose_client_goes_away_is_measured_as_cancelled() {
    let server = TestServer::start(Probe::default().service()).await.unwrap();
    for (count, disconnects) in [(1, true), (2, false)] {
        let socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let (mut sender, connection) = bounded(h2::client::handshake(socket)).await.unwrap();
        let (tasks, _) = Tasks::new();
        let gone = tasks.cancellation().clone();
        tasks.spawn("connection", async move {
            tokio::select! { _ = connection => {}, () = gone.cancelled() => {} }
        });
        let request = http::Request::post(format!("{}/{SERVICE}/GetTask", server.url()));
        let request = request.header("content-type", "application/grpc").body(()).unwrap();
        let (_answer, mut body) = sender.send_request(request, false).unwrap();
        // One byte of a message of nine.
        body.send_data(bytes::Bytes::from_static(&[0, 0, 0, 0, 9, 1]), false).unwrap();
        measured(&server, "foundry_active_requests{kind=\"unary\",service=\"task\"} 1").await;
        if disconnects {
            assert!(tasks.shutdown(BOUND).await);
        } else {
            body.send_reset(h2::Reason::CANCEL);
        }
        let line = "foundry_requests_total{code=\"CANCELLED\",method=\"/foundry.task.v1.TaskService/GetTask\",service=\"task\"}";
        measured(&server, &format!("{line} {count}")).await;
    }
}

#[tokio::test]
async fn a_deferred_upstream_says_that_its_target_is_starting_until_it_is_bound() {
    let server = TestServer::start(Probe::default().service()).await.unwrap();
    let (upstream, binding) = Upstream::deferred();
    let mut client = client(upstream);
    let early = bounded(client.get_task(get("echo"))).await.unwrap_err();
    assert_eq!((early.code(), reason(&early).as_str()), (Code::Unavailable, "STARTING"));
    binding.bind(server.local.clone());
    bounded(client.get_task(get("echo"))).await.unwrap();
}

#[tokio::test]
async fn an_authentication_layer_guards_the_routes_but_not_health() {
    let deny = tower::layer::layer_fn(denied);
    let server = TestServer::start(Probe::default().service().authenticated_by(deny)).await.unwrap();
    for upstream in both(&server).await {
        let refused = bounded(client(upstream.clone()).get_task(get("echo"))).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let mut health = tonic_health::pb::health_client::HealthClient::new(upstream);
        let request = tonic_health::pb::HealthCheckRequest { service: crate::support::SERVICE.to_owned() };
        let health = bounded(health.check(request)).await.unwrap().into_inner();
        assert_eq!(health.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
    }
}

#[tokio::test]
async fn what_watches_share_reaches_the_connection_without_a_copy() {
    let server = TestServer::start(Probe::default().service()).await.unwrap();
    let message = watch("endless").encode_to_vec();
    let message = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &message[..]].concat();
    let request = http::Request::post("/foundry.task.v1.TaskService/WatchTask")
        .header("content-type", "application/grpc")
        .body(Body::new(Full::new(Bytes::from(message))))
        .unwrap();
    let mut answer = bounded(server.local.clone().oneshot(request)).await.unwrap().into_body();
    let mut shared = false;
    for _ in 0..3 {
        let data = bounded(answer.frame()).await.unwrap().unwrap().into_data().unwrap();
        shared |= data.as_ptr() == SHARED.as_ptr();
    }
    assert!(shared, "the stack sends tonic's body");
}
