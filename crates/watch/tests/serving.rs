//! A hub over a real store, frame by frame.
#![allow(clippy::unwrap_used)]

mod support;

use foundry_frame::RawBody;
use support::*;

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
