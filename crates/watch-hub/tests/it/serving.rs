//! A hub over a real store, frame by frame.
use std::time::Duration;

use crate::support::*;
use foundry_frame::RawBody;
use foundry_proto::watch::v1::{ResetReason, Tombstone, TombstoneReason};
use foundry_watch::Unrestricted;
use foundry_watch_hub::HubConfig;
use prost::Message as _;

#[tokio::test]
async fn sends_a_snapshot_then_says_that_it_is_caught_up_then_each_commit_as_one_delta() {
    let world = World::new().await;
    world.put(&[("a", Some("red"), b"1"), ("b", Some("blue"), b"2")]).await;
    let hub = world.hub();
    let mut stream = world.watch(&hub, None);
    let hello = hello(&mut stream).await;
    assert!(!hello.resumed && hello.incarnation == world.store.incarnation());
    let bodies = until_caught_up(&mut stream).await;
    assert!(matches!(bodies[0], RawBody::SnapshotBegin(_)));
    assert_eq!(changes(&bodies[1]).len(), 2);
    let end = snapshot_end(bodies[2].clone());
    assert_eq!((end.rev, end.count), (1, 2));
    let digest = foundry_watch::row_digest("thing/a", 1) ^ foundry_watch::row_digest("thing/b", 1);
    assert_eq!(end.digest, digest);
    assert_eq!(bodies.len(), 4);

    let rev = world.put(&[("a", Some("red"), b"3"), ("c", Some("red"), b"4")]).await;
    let (frame, body) = frame(&mut stream).await;
    assert_eq!((frame.seq, frame.from_rev), (6, 1));
    let expected = [("thing/a".to_owned(), rev, false), ("thing/c".to_owned(), rev, false)];
    assert_eq!(changes(&body), expected);
}

#[tokio::test]
async fn resumes_on_another_process_from_a_position_without_a_snapshot() {
    let world = World::new().await;
    world.put(&[("a", Some("red"), b"1"), ("b", Some("red"), b"1")]).await;
    let mut stream = world.watch(&world.hub(), None);
    let token = bookmark(until_caught_up(&mut stream).await.pop().unwrap()).resume_token;
    drop(stream);
    world.put(&[("a", Some("red"), b"2")]).await;
    let last = world.put(&[("b", None, b"")]).await;

    let another = world.hub();
    let mut stream = world.watch(&another, Some((&token, 0)));
    assert!(hello(&mut stream).await.resumed);
    let bodies = until_caught_up(&mut stream).await;
    let expected = [("thing/a".to_owned(), 2, false), ("thing/b".to_owned(), 3, true)];
    assert_eq!(changes(&bodies[0]), expected);
    assert_eq!((bodies.len(), bookmark(bodies[1].clone()).rev), (2, last));
    assert_eq!((another.metrics().resumed, another.metrics().snapshots), (1, 0));
}

#[tokio::test]
async fn goes_on_after_the_revision_that_the_caller_applied_last() {
    let world = World::new().await;
    let hub = world.hub();
    let mut stream = world.watch(&hub, None);
    let token = bookmark(until_caught_up(&mut stream).await.pop().unwrap()).resume_token;
    world.put(&[("a", Some("red"), b"1")]).await;
    world.put(&[("b", Some("red"), b"1")]).await;
    let mut stream = world.watch(&hub, Some((&token, 1)));
    let first = hello(&mut stream).await;
    assert!(first.resumed);
    let (frame, body) = frame(&mut stream).await;
    assert_eq!((frame.from_rev, changes(&body)), (1, vec![("thing/b".to_owned(), 2, false)]));
}

#[tokio::test]
async fn says_that_an_entity_left_the_view_and_that_another_was_deleted() {
    let world = World::new().await;
    world.put(&[("a", Some("red"), b""), ("b", Some("red"), b""), ("c", Some("blue"), b"")]).await;
    let hub = world.hub();
    let mut stream = hub.watch(world.view(Some("red")), None, Unrestricted).unwrap();
    let bodies = until_caught_up(&mut stream).await;
    assert_eq!(changes(&bodies[2]).len(), 2);
    world.put(&[("a", Some("blue"), b""), ("b", None, b"")]).await;
    let (_, body) = frame(&mut stream).await;
    let RawBody::Delta(delta) = body else { panic!("no delta") };
    let reasons: Vec<_> = delta
        .changes
        .iter()
        .map(|c| match &c.op {
            Some(foundry_frame::RawOp::Tombstone(t)) => {
                (c.key.as_str(), Tombstone::decode(t.clone()).unwrap().reason())
            }
            other => panic!("no tombstone: {other:?}"),
        })
        .collect();
    assert!(reasons.contains(&("thing/a", TombstoneReason::LeftView)));
    assert!(reasons.contains(&("thing/b", TombstoneReason::Deleted)));
}

#[tokio::test]
async fn resets_a_position_below_the_tombstone_floor_and_sends_a_snapshot() {
    let world = World::new().await;
    world.put(&[("a", Some("red"), b""), ("b", Some("red"), b"")]).await;
    let mut stream = world.watch(&world.hub(), None);
    let token = bookmark(until_caught_up(&mut stream).await.pop().unwrap()).resume_token;
    drop(stream);
    world.put(&[("a", None, b"")]).await;
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.store.sweep_tombstones(world.env.clock.now()).await.unwrap(), 1);

    let mut stream = world.watch(&world.hub(), Some((&token, 0)));
    assert!(hello(&mut stream).await.resumed);
    let bodies = until_caught_up(&mut stream).await;
    assert_eq!(reset_reason(&bodies[0]), ResetReason::BelowFloor);
    assert!(matches!(bodies[1], RawBody::SnapshotBegin(_)));
    assert_eq!(changes(&bodies[2]), [("thing/b".to_owned(), 1, false)]);
}

#[tokio::test]
async fn resets_positions_of_other_views_and_forged_ones() {
    let world = World::new().await;
    let hub = world.hub();
    let mut stream = hub.watch(world.view(Some("red")), None, Unrestricted).unwrap();
    let token = bookmark(until_caught_up(&mut stream).await.pop().unwrap()).resume_token;
    for (token, after, reason) in [
        (token.as_str(), 0, ResetReason::ViewChanged),
        ("forged", 0, ResetReason::TokenInvalid),
        ("", 7, ResetReason::Unspecified),
    ] {
        let mut stream = world.watch(&hub, Some((token, after)));
        assert!(!hello(&mut stream).await.resumed);
        let bodies = until_caught_up(&mut stream).await;
        let snapshot = if reason == ResetReason::Unspecified { 0 } else { 1 };
        assert!(snapshot == 0 || reset_reason(&bodies[0]) == reason);
        assert!(matches!(bodies[snapshot], RawBody::SnapshotBegin(_)));
    }
}

#[tokio::test]
async fn lets_a_lagging_watcher_catch_up_by_pages_that_it_shows_at_the_end_only() {
    let world = World::new().await;
    let hub = world.hub_with(HubConfig { ring_bytes: 2_000, ..HubConfig::default() });
    let mut stream = caught_up(&world, &hub).await;
    for i in 0..700 {
        world.put(&[(&format!("k{i}"), Some("red"), b"content"), ("hot", Some("red"), b"x")]).await;
    }
    let (mut pages, mut keys) = (0, std::collections::BTreeMap::new());
    loop {
        let (_, body) = frame(&mut stream).await;
        let RawBody::Delta(delta) = &body else { panic!("no delta: {body:?}") };
        pages += 1;
        keys.extend(changes(&body).into_iter().map(|(key, version, _)| (key, version)));
        if !delta.more {
            assert_eq!(delta.to_rev, 700);
            break;
        }
    }
    assert!(pages > 2, "{pages}");
    assert_eq!((keys.len(), keys["thing/hot"]), (701, 700));
    assert!(bookmark(frame(&mut stream).await.1).caught_up);
    assert!(hub.metrics().page_reads > 2);
}

#[tokio::test]
async fn delivers_what_another_process_wrote_without_any_hint() {
    let world = World::new().await;
    let hub = world.hub();
    let mut stream = caught_up(&world, &hub).await;
    let other = world.other_store().await;
    world.put_through(&other, &[("a", Some("red"), b"")]).await;
    // The heartbeat of the stream and the poll of its feed.
    world.clock.wait_for_sleepers(2).await;
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(changes(&frame(&mut stream).await.1), [("thing/a".to_owned(), 1, false)]);
}

#[tokio::test]
async fn tells_its_position_with_each_heartbeat_also_when_only_others_changed() {
    let world = World::new().await;
    let hub = world.hub();
    let mut stream = hub.watch(world.view(Some("red")), None, Unrestricted).unwrap();
    until_caught_up(&mut stream).await;
    let mut other = caught_up(&world, &hub).await;
    let rev = world.put(&[("a", Some("blue"), b"")]).await;
    let left = [("thing/a".to_owned(), rev, true)];
    assert_eq!(changes(&frame(&mut stream).await.1), left);
    frame(&mut other).await;
    world.clock.advance(Duration::from_secs(15));
    let bookmark = bookmark(frame(&mut stream).await.1);
    assert!(bookmark.caught_up && bookmark.rev == rev);
}

#[tokio::test]
async fn shows_nothing_below_the_head_at_which_a_page_left_newer_rows_out() {
    let world = World::new().await;
    // The ring holds the last third of the following changes, so that a catch-up moves from pages to the ring.
    let hub = world.hub_with(HubConfig { ring_bytes: 14_000, ..HubConfig::default() });
    let mut stream = world.watch(&hub, None);
    let token = bookmark(until_caught_up(&mut stream).await.pop().unwrap()).resume_token;
    for i in 0..300 {
        world.put(&[(&format!("k{i}"), Some("red"), b"1")]).await;
        while hub.metrics().encoded <= i {
            tokio::task::yield_now().await;
        }
    }
    // The oldest row becomes the newest, and this process gets no hint.
    let other = world.other_store().await;
    world.put_through(&other, &[("k0", Some("red"), b"2")]).await;

    let mut late = world.watch(&hub, Some((&token, 0)));
    hello(&mut late).await;
    let mut keys = std::collections::BTreeSet::new();
    loop {
        let (_, body) = frame(&mut late).await;
        let RawBody::Delta(delta) = &body else { panic!("no delta: {body:?}") };
        keys.extend(changes(&body).into_iter().map(|(key, ..)| key));
        if !delta.more {
            break;
        }
    }
    assert!(keys.contains("thing/k0"), "the state shown lacks a row that was there all the time");
    assert_eq!(keys.len(), 300);
}

#[tokio::test]
async fn five_hundred_streams_that_come_back_at_once_resume_without_a_snapshot_and_miss_nothing() {
    const STREAMS: usize = 500;
    let world = World::new().await;
    let hub = world.hub();
    let (mut positions, mut revs) = (Vec::new(), Vec::new());
    for thing in ["a", "b", "c", "d", "e"] {
        revs.push(world.put(&[(thing, Some("red"), b"")]).await);
        let mut stream = world.watch(&hub, None);
        let reached = bookmark(until_caught_up(&mut stream).await.pop().unwrap());
        positions.push((reached.resume_token, reached.rev));
    }
    // The process is another one, and more was written since.
    drop(hub);
    for thing in ["f", "g"] {
        revs.push(world.put(&[(thing, Some("red"), b"")]).await);
    }
    let hub = world.hub();
    let back = (0..STREAMS).map(async |n| {
        let (token, from) = &positions[n % positions.len()];
        let mut stream = world.watch(&hub, Some((token, *from)));
        let bodies = until_caught_up(&mut stream).await;
        let deltas = bodies.iter().filter(|body| matches!(body, RawBody::Delta(_)));
        let versions: Vec<_> = deltas.flat_map(changes).map(|(_, version, _)| version).collect();
        let missed: Vec<_> = revs.iter().copied().filter(|rev| rev > from).collect();
        assert_eq!(versions, missed, "each change once and in order, from {from}");
    });
    futures::future::join_all(back).await;
    let metrics = hub.metrics();
    assert_eq!((metrics.resumed, metrics.snapshots, metrics.snapshot_reads, metrics.resets), (500, 0, 0, 0));
}
