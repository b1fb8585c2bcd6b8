//! Calls and streams through the edge.

use std::time::Duration;

use foundry_core::Code;
use foundry_gateway::{CallerLimits, Config};
use foundry_proto::auth::v1::CompleteSignInRequest;
use foundry_proto::auth::v1::auth_service_client::AuthServiceClient;
use foundry_proto::provisioner::v1::ListSandboxesRequest;
use foundry_proto::provisioner::v1::provisioner_service_client::ProvisionerServiceClient;
use foundry_proto::task::v1::{GetTaskRequest, WatchTaskRequest};
use foundry_server::Exit;
use futures::StreamExt as _;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::mesh::{Mesh, Reached, bounded, reason, with_token};

const BOTH: [Reached; 2] = [Reached::Locally, Reached::Remotely];

#[tokio::test]
async fn a_call_reaches_its_service_with_its_callers_token_and_nothing_it_must_not_say() {
    for reached in BOTH {
        let mesh = Mesh::start(reached).await;
        let jwt = mesh.behind.jwt("crd_1");
        let mut request = with_token(GetTaskRequest { task_id: "task_1".into() }, &jwt);
        for (name, value) in [
            ("x-foundry-caller", "admin"),
            ("foundry-client-peer", "loopback"),
            ("foundry-on-behalf-of", "usr_1"),
            ("x-request-id", "mine-1"),
        ] {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        let answer = bounded(mesh.client().get_task(request)).await.unwrap();
        assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mine-1");
        assert_eq!(answer.metadata().get("x-at-the-end").unwrap(), "kept", "{reached:?}");
        assert_eq!(answer.into_inner().task.unwrap().task_id, "task_1");
        let seen = mesh.behind.last_headers("/GetTask");
        assert_eq!(seen["authorization"], format!("Bearer {jwt}"));
        assert_eq!(seen["x-request-id"], "mine-1");
        assert!(seen.contains_key("traceparent"));
        assert!(seen.keys().all(|name| !name.as_str().contains("foundry-")), "{seen:?}");
    }
}

#[tokio::test]
async fn a_service_s_own_error_passes_as_it_is() {
    for reached in BOTH {
        let mesh = Mesh::start(reached).await;
        let status = mesh.get("absent", &mesh.behind.jwt("crd_1")).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "NOT_FOUND"));
    }
}

#[tokio::test]
async fn frames_of_a_stream_pass_when_they_come_and_its_end_is_the_service_s() {
    for reached in BOTH {
        let mesh = Mesh::start(reached).await;
        let request = with_token(WatchTaskRequest::default(), &mesh.behind.jwt("crd_1"));
        let mut frames = bounded(mesh.client().watch_task(request)).await.unwrap().into_inner();
        assert_eq!(bounded(frames.next()).await.unwrap().unwrap().seq, 1, "before the second is written");
        mesh.behind.release.cancel();
        assert_eq!(bounded(frames.next()).await.unwrap().unwrap().seq, 2);
        assert!(bounded(frames.next()).await.is_none());
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_its_call_and_its_stream_at_the_service() {
    for reached in BOTH {
        let mesh = Mesh::start(reached).await;
        let jwt = mesh.behind.jwt("crd_1");
        let request = with_token(WatchTaskRequest::default(), &jwt);
        let frames = bounded(mesh.client().watch_task(request)).await.unwrap();
        bounded(mesh.behind.entered.acquire()).await.unwrap().forget();
        drop(frames);
        bounded(mesh.behind.dropped.acquire()).await.unwrap().forget();
        {
            let mut client = mesh.client();
            let call = client.get_task(with_token(GetTaskRequest { task_id: "hang".into() }, &jwt));
            tokio::select! {
                answer = call => panic!("it hangs: {answer:?}"),
                entered = mesh.behind.entered.acquire() => entered.unwrap().forget(),
            }
        }
        bounded(mesh.behind.dropped.acquire()).await.unwrap().forget();
    }
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented_and_typed() {
    let mesh = Mesh::start(Reached::Locally).await;
    let mut absent = ProvisionerServiceClient::new(mesh.gateway.remote().unwrap());
    let status = bounded(absent.list_sandboxes(ListSandboxesRequest::default())).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "SERVICE_UNKNOWN"));
}

#[tokio::test]
async fn a_service_that_is_away_is_unavailable_with_a_time_to_retry_and_shows_in_the_health() {
    let mut mesh = Mesh::start(Reached::Remotely).await;
    let jwt = mesh.behind.jwt("crd_1");
    mesh.get("task_1", &jwt).await.unwrap();
    let mut health = HealthClient::new(mesh.gateway.remote().unwrap());
    let mut updates =
        bounded(health.watch(HealthCheckRequest { service: "foundry.task.v1.TaskService".into() }))
            .await
            .unwrap()
            .into_inner();
    while bounded(updates.next()).await.unwrap().unwrap().status() != ServingStatus::Serving {}

    let request = with_token(WatchTaskRequest::default(), &jwt);
    let mut frames = bounded(mesh.client().watch_task(request)).await.unwrap().into_inner();
    bounded(frames.next()).await.unwrap().unwrap();
    assert_eq!(bounded(mesh.task.take().unwrap().stop()).await, Exit::Clean);
    let broken = bounded(frames.next()).await.unwrap().unwrap_err();
    assert_eq!((broken.code(), reason(&broken).as_str()), (Code::Unavailable, "UPSTREAM_BROKE_OFF"));

    let status = mesh.get("task_1", &jwt).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UPSTREAM_UNAVAILABLE"));
    let details = tonic_types::StatusExt::get_error_details(&status);
    assert!(details.retry_info().unwrap().retry_delay > Some(Duration::ZERO));

    mesh.clock.advance(Duration::from_secs(3));
    assert_eq!(bounded(updates.next()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let overall = bounded(health.check(HealthCheckRequest::default())).await.unwrap().into_inner();
    assert_eq!(overall.status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn an_oversize_message_is_refused_and_the_next_one_served() {
    for reached in BOTH {
        let mesh = Mesh::start(reached).await;
        let jwt = mesh.behind.jwt("crd_1");
        let status = mesh.get(&"x".repeat(5 << 20), &jwt).await.unwrap_err();
        let said = (status.code(), reason(&status));
        assert_eq!(said, (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".to_owned()), "{reached:?}");
        mesh.get("task_1", &jwt).await.unwrap();
    }
}

#[tokio::test]
async fn a_caller_beyond_its_rate_waits_and_another_does_not() {
    let caller = CallerLimits { requests_per_second: 1, burst: 2, unary_calls: 9, streams: 1 };
    let config = Config { caller, ..Config::default() };
    let mesh = Mesh::start_with(Reached::Locally, config).await;
    let one = mesh.behind.jwt("crd_1");
    let other = mesh.behind.jwt_of(&mesh.behind.other_user, "crd_2");
    mesh.get("task_1", &one).await.unwrap();
    // Another token of the same user.
    mesh.get("task_1", &mesh.behind.jwt("crd_3")).await.unwrap();
    let status = mesh.get("task_1", &one).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "LIMIT_REACHED"));
    let details = tonic_types::StatusExt::get_error_details(&status);
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    assert_eq!(details.quota_failure().unwrap().violations.len(), 1);
    assert_eq!(mesh.behind.calls("/GetTask"), 2);

    let watch = || with_token(WatchTaskRequest::default(), &other);
    let open = bounded(mesh.client().watch_task(watch())).await.unwrap();
    assert_eq!(bounded(mesh.client().watch_task(watch())).await.unwrap_err().code(), Code::ResourceExhausted);
    drop(open);
    mesh.clock.advance(Duration::from_secs(1));
    mesh.get("task_1", &one).await.unwrap();
}

#[tokio::test]
async fn a_sign_in_is_told_where_its_client_is_by_the_gateway_alone() {
    let mesh = Mesh::start(Reached::Remotely).await;
    let mut auth = AuthServiceClient::new(mesh.gateway.remote().unwrap());
    let mut request = with_token(CompleteSignInRequest::default(), "fds_old");
    request.metadata_mut().insert("foundry-client-peer", "remote".parse().unwrap());
    bounded(auth.complete_sign_in(request)).await.unwrap();
    let seen = mesh.behind.last_headers("/CompleteSignIn");
    assert_eq!(seen["foundry-client-peer"], "loopback");
    assert_ne!(seen["authorization"], "Bearer fds_old", "the gateway calls in its own name");

    let mut request = tonic::Request::new(CompleteSignInRequest::default());
    request.metadata_mut().insert("x-forwarded-for", "203.0.113.9".parse().unwrap());
    bounded(auth.complete_sign_in(request)).await.unwrap();
    assert_eq!(mesh.behind.last_headers("/CompleteSignIn")["foundry-client-peer"], "remote");
}

#[tokio::test]
async fn a_drain_cuts_watches_with_a_status_and_comes_to_its_end() {
    let mesh = Mesh::start(Reached::Locally).await;
    let request = with_token(WatchTaskRequest::default(), &mesh.behind.jwt("crd_1"));
    let mut frames = bounded(mesh.client().watch_task(request)).await.unwrap().into_inner();
    bounded(frames.next()).await.unwrap().unwrap();
    let (gateway, clock) = (mesh.gateway, mesh.clock);
    let passes = async {
        loop {
            clock.advance(Duration::from_millis(200));
            tokio::task::yield_now().await;
        }
    };
    let ended = async {
        let stopped = gateway.stop();
        let (exit, status) = tokio::join!(stopped, async { frames.next().await.unwrap().unwrap_err() });
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "DRAINING"));
        exit
    };
    tokio::select! {
        exit = bounded(ended) => assert_eq!(exit, Exit::Clean),
        () = passes => {}
    }
}
