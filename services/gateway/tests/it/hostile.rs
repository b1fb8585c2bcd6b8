//! Requests that no well-behaved client sends.

use foundry_core::Code;
use foundry_proto::edge::v1::{Subscription, WatchRequest};

use crate::browser::{Browser, WATCH_TASK, client, watch};
use crate::mesh::{Mesh, Reached, bounded, reason, with_token};

async fn refused(mesh: &Mesh, subscriptions: Vec<Subscription>) -> Code {
    match Browser::try_open(mesh, "fds_1", subscriptions).await {
        Ok(_) => panic!("it was let in"),
        Err(status) => {
            assert!(!reason(&status).is_empty(), "{status:?}");
            status.code()
        }
    }
}

#[tokio::test]
async fn a_request_that_breaks_a_limit_is_refused_as_a_whole() {
    let mesh = Mesh::start(Reached::Remotely).await;
    let huge = Subscription { request: vec![0; 4_097].into(), ..watch(1, "task_1", None) };
    let cases = [
        vec![huge],
        vec![watch(0, "task_1", None)],
        vec![watch(1, "task_1", None), watch(1, "task_2", None)],
    ];
    for case in cases {
        assert_eq!(refused(&mesh, case).await, Code::InvalidArgument);
    }
    let heartbeat = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let request = WatchRequest { subscriptions: Vec::new(), heartbeat };
    let status = bounded(client(&mesh).watch(with_token(request, "fds_1"))).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let enormous = Subscription { request: vec![0; 5 << 20].into(), ..watch(1, "task_1", None) };
    assert_eq!(refused(&mesh, vec![enormous]).await, Code::ResourceExhausted);
    assert_eq!(mesh.behind.calls("/AuthorizeWatch"), 0);
}

#[tokio::test]
async fn too_many_watches_are_refused_alike_at_the_beginning_and_later() {
    let mesh = Mesh::start(Reached::Locally).await;
    let many = |from: u32| (from..from + 257).map(|n| watch(n, "task_1", None)).collect::<Vec<_>>();
    let first = Browser::try_open(&mesh, "fds_1", many(1)).await.err().unwrap();
    let mut browser = Browser::open(&mesh, "fds_1", vec![]).await;
    let later = browser.modify(1, many(1), vec![]).await.unwrap_err();
    for status in [first, later] {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "LIMIT_REACHED"));
    }
}

#[tokio::test]
async fn a_watch_that_cannot_be_had_ends_alone_and_says_why() {
    let mesh = Mesh::start(Reached::Locally).await;
    let of = |sub_id, method: &str, request: &[u8]| Subscription {
        sub_id,
        method: method.to_owned(),
        request: request.to_vec().into(),
    };
    let bad = [
        (watch(1, "absent", None), Code::NotFound, "NOT_FOUND"),
        (of(2, WATCH_TASK, b"\xff\xff\xff"), Code::InvalidArgument, "MALFORMED_MESSAGE"),
        (of(3, "/foundry.task.v1.TaskService/GetTask", b""), Code::InvalidArgument, "INVALID_FIELD"),
        (of(4, "/foundry.task.v1.TaskService/WatchNothing", b""), Code::Unimplemented, "METHOD_UNKNOWN"),
        (of(5, "/foundry.edge.v1.EdgeService/Watch", b""), Code::Unimplemented, "SERVICE_UNKNOWN"),
        (of(6, "/foundry.auth.v1.AuthService/WatchRevocations", b""), Code::InvalidArgument, "INVALID_FIELD"),
        (of(7, "", b""), Code::Unimplemented, "SERVICE_UNKNOWN"),
        (
            of(8, "/foundry.watch.v1.WatchAuthorizationService/AuthorizeWatch", b""),
            Code::Unimplemented,
            "SERVICE_UNKNOWN",
        ),
    ];
    let mut subscriptions: Vec<_> = bad.iter().map(|(subscription, ..)| subscription.clone()).collect();
    subscriptions.push(watch(9, "task_1", None));
    let mut browser = Browser::open(&mesh, "fds_1", subscriptions).await;
    browser.until(|b| b.seen[&9].is_caught_up && (1..=8).all(|n| b.seen[&n].ended.is_some())).await;
    for (Subscription { sub_id, .. }, code, why) in bad {
        let ended = browser.seen[&sub_id].ended.as_ref().unwrap();
        let details = bytes::Bytes::clone(&ended.status);
        let status = tonic::Status::with_details(Code::from_i32(ended.code), &ended.message, details);
        assert_eq!((status.code(), reason(&status).as_str()), (code, why), "watch {sub_id}");
    }
    assert_eq!(mesh.behind.calls("/AuthorizeWatch"), 3, "only owners of watches, and twice before a refusal");
    let rev = mesh.behind.owner.put("task_1", &[("a", Some(b"1"))]).await;
    browser.until_at(9, rev).await;
}

#[tokio::test]
async fn a_token_that_makes_no_sense_to_the_owner_starts_over_and_shares_the_topic_all_the_same() {
    let mesh = Mesh::start(Reached::Locally).await;
    mesh.behind.owner.put("task_1", &[("a", Some(b"1"))]).await;
    let mut one = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
    one.until_caught_up(1).await;
    let bad = Some(("rubbish", i64::MAX));
    let mut two = Browser::open(&mesh, "fds_2", vec![watch(1, "task_1", bad)]).await;
    two.until_caught_up(1).await;
    assert_eq!((two.seen[&1].resets, two.seen[&1].snapshots), (1, 1));
    let rev = mesh.behind.owner.put("task_1", &[("b", Some(b"1"))]).await;
    one.until_at(1, rev).await;
    two.until_at(1, rev).await;
}

#[tokio::test]
async fn streams_count_against_their_users_limit_whatever_the_token() {
    let caller =
        foundry_gateway::CallerLimits { requests_per_second: 0, burst: 9, unary_calls: 9, streams: 1 };
    let config = foundry_gateway::Config { caller, ..foundry_gateway::Config::default() };
    let mesh = Mesh::start_with(Reached::Locally, config).await;
    let open = Browser::open(&mesh, "fds_1", vec![]).await;
    for token in ["fds_1", "fds_2", "fpat_3"] {
        let status = Browser::try_open(&mesh, token, vec![]).await.err().unwrap();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "LIMIT_REACHED"));
    }
    Browser::open(&mesh, "fds_of_another", vec![]).await;
    drop(open);
    bounded(async { while Browser::try_open(&mesh, "fds_1", vec![]).await.is_err() {} }).await;
}

#[tokio::test]
async fn nobody_gets_in_without_a_good_token() {
    let mesh = Mesh::start(Reached::Locally).await;
    let request = tonic::Request::new(WatchRequest::default());
    let missing = bounded(client(&mesh).watch(request)).await.unwrap_err();
    assert_eq!((missing.code(), reason(&missing).as_str()), (Code::Unauthenticated, "TOKEN_MISSING"));
    let service = mesh.service.token("gateway").unwrap();
    for (token, code) in [("rubbish", Code::Unauthenticated), (&service, Code::PermissionDenied)] {
        let status =
            bounded(client(&mesh).watch(with_token(WatchRequest::default(), token))).await.unwrap_err();
        assert_eq!(status.code(), code);
    }
}
