//! Traces, metrics and logs reach an OTLP endpoint. Alone in its process, since the subscriber is per process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::support::{Probe, bounded, client, get};
use axum::extract::State;
use foundry_core::Env;
use foundry_server::config::{Secret, ServerConfig, TelemetryConfig};
use foundry_server::testing::TestServer;
use foundry_server::{RequestContext, Service, Telemetry};
use http_body_util::BodyExt as _;

type Seen = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Answers every export with an empty message.
async fn collect(
    State(seen): State<Seen>,
    request: axum::extract::Request,
) -> http::Response<axum::body::Body> {
    assert_eq!(request.headers()["authorization"], "Bearer collector");
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    seen.lock().unwrap().entry(path).or_default().extend_from_slice(&body);
    http::Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", "0")
        .body(axum::body::Body::from(vec![0; 5]))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_metrics_and_logs_are_exported_and_go_on_in_the_callers_trace() {
    let seen = Seen::default();
    let router = axum::Router::new().fallback(collect).with_state(seen.clone());
    let collector = Service::new("collector", ["none"], tonic::service::Routes::from(router));
    let collector = TestServer::start(collector).await.unwrap();
    let config = TelemetryConfig {
        otlp_endpoint: collector.url(),
        otlp_authorization: Secret::new("Bearer collector".to_owned()),
        ..TelemetryConfig::default()
    };
    let telemetry = Telemetry::start(&config, "mesh").unwrap();

    let mounted = Probe::default().service();
    let mounted = mounted.mount(&ServerConfig::default(), &Env::system(), telemetry.metrics()).await.unwrap();
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let outer = RequestContext::resume(traceparent, &Env::system());
    let call = async { client(mounted.upstream()).get_task(get("echo")).await };
    let answer = bounded(outer.scope(call)).await.unwrap();
    assert_eq!(answer.into_inner().task.unwrap().title, "4bf92f3577b34da6a3ce929d0e0e4736");

    bounded(tokio::task::spawn_blocking(move || telemetry.flush())).await.unwrap();
    let seen = seen.lock().unwrap();
    let export = |signal: &str| {
        let path = format!("/opentelemetry.proto.collector.{signal}Service/Export");
        seen.get(&path).unwrap_or_else(|| panic!("{path} is not among {:?}", seen.keys()))
    };
    let contains = |body: &[u8], part: &[u8]| body.windows(part.len()).any(|window| window == part);
    let trace_id = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
    assert!(contains(export("trace.v1.Trace"), &trace_id));
    assert!(contains(export("logs.v1.Logs"), b"/foundry.task.v1.TaskService/GetTask"));
    assert!(contains(export("metrics.v1.Metrics"), b"foundry_requests"));
}
