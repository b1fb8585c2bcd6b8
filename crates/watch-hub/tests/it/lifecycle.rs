//! What ends, delays or refuses a stream.
use std::time::Duration;

use crate::support::*;
use foundry_core::Timestamp;
use foundry_frame::RawBody;
use foundry_proto::watch::v1::{AuthExpiring, Drain, WatchOptions};
use foundry_watch::{AuthorizationEvent, StreamAuthorization, Unrestricted};
use foundry_watch_hub::{Hub, HubConfig};
use futures::channel::mpsc;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

struct Permission(String, mpsc::UnboundedReceiver<AuthorizationEvent>);

impl StreamAuthorization for Permission {
    fn caller(&self) -> Option<String> {
        Some(self.0.clone())
    }
    fn events(self: Box<Self>) -> BoxStream<'static, AuthorizationEvent> {
        self.1.boxed()
    }
}

fn permission(caller: &str) -> (mpsc::UnboundedSender<AuthorizationEvent>, Permission) {
    let (sender, events) = mpsc::unbounded();
    (sender, Permission(caller.to_owned(), events))
}

#[tokio::test]
async fn sends_nothing_more_once_the_permission_has_ended_however_much_is_ready() {
    let world = World::new().await;
    let hub = world.hub();
    let (permission, authorization) = permission("u");
    let mut stream = hub.watch(world.view(None), None, authorization).unwrap();
    until_caught_up(&mut stream).await;
    permission.unbounded_send(AuthorizationEvent::Expiring(Timestamp::from_micros(5_000_000))).unwrap();
    let RawBody::AuthExpiring(bytes) = frame(&mut stream).await.1 else { panic!("not notified") };
    assert_eq!(AuthExpiring::decode(bytes).unwrap().expire_time.unwrap().seconds, 5);
    world.put(&[("a", Some("red"), b"")]).await;
    frame(&mut stream).await;
    world.put(&[("a", Some("red"), b"secret")]).await;
    permission.unbounded_send(AuthorizationEvent::Ended(Status::unauthenticated("revoked"))).unwrap();
    let status = stream.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(stream.next().await.is_none());
    assert_eq!(hub.metrics().revoked, 1);
}

#[tokio::test]
async fn tells_every_stream_to_go_elsewhere_ends_it_well_and_refuses_new_ones() {
    let world = World::new().await;
    let hub = world.hub();
    let mut stream = caught_up(&world, &hub).await;
    let mut drain = std::pin::pin!(hub.drain(Duration::from_secs(3)));
    assert!(drain.as_mut().now_or_never().is_none());
    let RawBody::Drain(bytes) = frame(&mut stream).await.1 else { panic!("not notified") };
    let order = Drain::decode(bytes).unwrap();
    let deadline = Timestamp::from_proto(&order.deadline_time.unwrap());
    assert!(deadline > world.env.clock.now());

    let refused = hub.watch(world.view(None), None, Unrestricted).err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(Status::from(refused).get_error_details().retry_info().is_some());

    // Still served until its end, since the next stream opens first.
    world.put(&[("a", Some("red"), b"")]).await;
    assert_eq!(changes(&frame(&mut stream).await.1).len(), 1);
    let _running = script::run_clock(&world.clock, &world.tasks);
    end(&mut stream).await.unwrap();
    drop(stream);
    assert!(drain.await);
    assert_eq!(hub.metrics().feeds, 0);
}

#[tokio::test]
async fn says_hello_before_anything_else() {
    let world = World::new().await;
    let hub = world.hub();
    let (permission, authorization) = permission("u");
    let mut stream = hub.watch(world.view(None), None, authorization).unwrap();
    permission.unbounded_send(AuthorizationEvent::Expiring(Timestamp::from_micros(0))).unwrap();
    let mut drain = std::pin::pin!(hub.drain(Duration::from_secs(3)));
    assert!(drain.as_mut().now_or_never().is_none());
    hello(&mut stream).await;
    assert!(matches!(frame(&mut stream).await.1, RawBody::AuthExpiring(_)));
    assert!(matches!(frame(&mut stream).await.1, RawBody::Drain(_)));
}

#[tokio::test]
async fn does_not_wait_for_ever_for_a_stream_that_nobody_reads() {
    let world = World::new().await;
    let hub = world.hub();
    let _unread = caught_up(&world, &hub).await;
    let _running = script::run_clock(&world.clock, &world.tasks);
    assert!(!hub.drain(Duration::from_secs(3)).await);
}

#[tokio::test]
async fn drains_at_once_when_nobody_watches() {
    let world = World::new().await;
    let hub = world.hub();
    assert_eq!(hub.drain(Duration::from_secs(3)).now_or_never(), Some(true));
}

#[tokio::test]
async fn never_ends_well_without_a_drain() {
    let world = World::new().await;
    let hub = world.hub();
    let mut stream = caught_up(&world, &hub).await;
    world.tasks.cancellation().cancel();
    assert_eq!(end(&mut stream).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn refuses_more_watches_than_a_caller_or_the_process_may_have_and_names_the_limit() {
    let world = World::new().await;
    let hub = world.hub_with(HubConfig { max_watches: 3, max_watches_per_caller: 2, ..HubConfig::default() });
    let watch = |caller: &str| {
        let (_, authorization) = permission(caller);
        hub.watch(world.view(None), None, authorization)
    };
    let first = watch("u").unwrap();
    let _second = watch("u").unwrap();
    let refused = Status::from(watch("u").err().unwrap());
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let details = refused.get_error_details();
    let facts = &details.error_info().unwrap().metadata;
    assert_eq!((facts["limit"].as_str(), facts["maximum"].as_str()), ("watches_per_caller", "2"));
    let _third = watch("v").unwrap();
    let refused = Status::from(watch("w").err().unwrap());
    assert_eq!(refused.get_error_details().error_info().unwrap().metadata["limit"], "watches");
    drop(first);
    assert!(watch("u").is_ok());
}

#[tokio::test]
async fn refuses_heartbeats_out_of_range() {
    let world = World::new().await;
    let hub = world.hub();
    for seconds in [-1, 0, 31] {
        let heartbeat = Some(prost_types::Duration { seconds, nanos: 0 });
        let options = WatchOptions { heartbeat, ..Default::default() };
        let refused = hub.watch(world.view(None), Some(options), Unrestricted).err().unwrap();
        assert_eq!(refused.code(), Code::InvalidArgument, "{seconds}");
    }
}

#[tokio::test]
async fn waits_for_a_position_of_a_newer_replica_and_never_sends_older_data() {
    let world = World::new().await;
    let hub = world.hub();
    let mut first = world.watch(&hub, None);
    let token = bookmark(until_caught_up(&mut first).await.pop().unwrap()).resume_token;
    let mut ahead = world.watch(&hub, Some((&token, 2)));
    assert!(hello(&mut ahead).await.resumed);
    world.put(&[("a", Some("red"), b"")]).await;
    assert!(ahead.next().now_or_never().is_none());
    let running = script::run_clock(&world.clock, &world.tasks);
    let status = end(&mut ahead).await.unwrap_err();
    assert_eq!((status.code(), status.message().contains("newer")), (Code::Unavailable, true));
    drop(running);

    let mut arriving = world.watch(&hub, Some((&token, 2)));
    hello(&mut arriving).await;
    world.put(&[("b", Some("red"), b"")]).await;
    let bookmark = bookmark(until_caught_up(&mut arriving).await.pop().unwrap());
    assert_eq!((bookmark.rev, bookmark.caught_up), (2, true));
}

/// Commits and reads one change after the other; the last ones are left for gathering.
async fn burst(world: &World, hub: &Hub, stream: &mut foundry_watch_hub::FrameStream, gathered: u64) {
    for i in 0..8 + gathered {
        world.put(&[("a", Some("red"), format!("{i}").as_bytes())]).await;
        while hub.metrics().encoded <= i {
            tokio::task::yield_now().await;
        }
        if i < 8 {
            assert_eq!(changes(&frame(stream).await.1).len(), 1);
        } else {
            assert!(stream.next().now_or_never().is_none(), "the bucket is empty");
        }
    }
}

#[tokio::test]
async fn gathers_changes_to_the_newest_of_each_key_when_a_stream_is_out_of_pace() {
    let world = World::new().await;
    let hub = world.hub();
    let mut stream = caught_up(&world, &hub).await;
    burst(&world, &hub, &mut stream, 5).await;
    world.clock.advance(Duration::from_millis(24));
    assert!(stream.next().now_or_never().is_none());
    world.clock.advance(Duration::from_millis(1));
    let (frame, body) = frame(&mut stream).await;
    assert_eq!((frame.from_rev, changes(&body)), (8, vec![("thing/a".to_owned(), 13, false)]));
}

#[tokio::test]
async fn keeps_every_version_of_a_log_that_is_out_of_pace() {
    let world = World::new().await;
    let hub = world.hub();
    let mut stream = hub.watch(world.view(None).never_conflate(), None, Unrestricted).unwrap();
    until_caught_up(&mut stream).await;
    burst(&world, &hub, &mut stream, 5).await;
    world.clock.advance(Duration::from_millis(25));
    let versions: Vec<_> = changes(&frame(&mut stream).await.1).into_iter().map(|c| c.1).collect();
    assert_eq!(versions, [9, 10, 11, 12, 13]);
}

#[tokio::test]
async fn reads_and_encodes_once_for_all_who_watch_the_same() {
    let world = World::new().await;
    world.put(&[("a", Some("red"), b"")]).await;
    let hub = world.hub();
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(caught_up(&world, &hub).await);
    }
    assert_eq!((hub.metrics().snapshots, hub.metrics().snapshot_reads), (20, 1));
    world.put(&[("a", Some("red"), b"x")]).await;
    let mut bodies = Vec::new();
    for stream in &mut streams {
        bodies.push(frame(stream).await.0.body);
    }
    assert!(bodies.iter().all(|b| b.as_ptr() == bodies[0].as_ptr()), "one buffer for all");
    let metrics = hub.metrics();
    assert_eq!((metrics.encoded, metrics.feeds, metrics.watches["WatchThings"]), (1, 1, 20));
    drop(streams);
    assert_eq!((hub.metrics().feeds, hub.watches()), (0, 0));
}

#[tokio::test]
async fn takes_snapshot_memory_back_from_a_stalled_stream_for_one_that_waits() {
    let world = World::new().await;
    let big = vec![7; 15_000];
    for i in 0..8 {
        world.put(&[(&format!("k{i}"), Some("red"), &big), (&format!("b{i}"), Some("blue"), &big)]).await;
    }
    // Room for one snapshot of 120 kB.
    let hub = world.hub_with(HubConfig { snapshot_bytes: 130 * 1024, ..HubConfig::default() });
    let mut stalled = hub.watch(world.view(Some("red")), None, Unrestricted).unwrap();
    hello(&mut stalled).await;
    assert!(matches!(frame(&mut stalled).await.1, RawBody::SnapshotBegin(_)));
    let mut waiting = hub.watch(world.view(Some("blue")), None, Unrestricted).unwrap();
    hello(&mut waiting).await;
    assert!(waiting.next().now_or_never().is_none());
    // Heartbeats continue during the wait, and both streams complete.
    let _running = script::run_clock(&world.clock, &world.tasks);
    let alive = frame(&mut waiting).await.1;
    let rows = |bodies: &[RawBody]| {
        bodies
            .iter()
            .filter(|b| matches!(b, RawBody::SnapshotChunk(_)))
            .map(|b| changes(b).len())
            .sum::<usize>()
    };
    assert!(matches!(alive, RawBody::Bookmark(_) | RawBody::SnapshotBegin(_)));
    assert_eq!(rows(&until_caught_up(&mut waiting).await), 8);
    let rest = until_caught_up(&mut stalled).await;
    let begun_again = rest.iter().position(|b| matches!(b, RawBody::SnapshotBegin(_))).unwrap();
    assert_eq!(rows(&rest[begun_again..]), 8);
}
