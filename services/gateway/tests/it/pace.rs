//! How often a watch gets bookmarks, and what it gets when its owner is unavailable.

use std::time::Duration;

use foundry_core::Code;
use foundry_frame::RawBody;
use foundry_proto::edge::v1::Subscription;
use foundry_proto::task::v1::WatchTaskRequest;
use foundry_proto::watch::v1::{Hello, WatchOptions};
use prost::Message as _;
use tonic::Status;

use crate::browser::{Browser, WATCH_TASK, watch};
use crate::joining::until_watches;
use crate::mesh::{Mesh, Reached, reason};

fn watch_at(sub_id: u32, seconds: i64) -> Subscription {
    let heartbeat = Some(prost_types::Duration { seconds, nanos: 0 });
    let options = Some(WatchOptions { heartbeat, ..WatchOptions::default() });
    let request = WatchTaskRequest { options, task_id: "task_1".into() };
    Subscription { sub_id, method: WATCH_TASK.to_owned(), request: request.encode_to_vec().into() }
}

fn promised(browser: &Browser, sub_id: u32) -> i64 {
    let Some(RawBody::Hello(hello)) = browser.seen[&sub_id].log.frames[0].raw().unwrap().body else {
        panic!("no hello")
    };
    Hello::decode(hello).unwrap().heartbeat.unwrap().seconds
}

#[tokio::test]
async fn each_reader_of_a_topic_gets_bookmarks_at_the_pace_it_asked_for() {
    let mesh = Mesh::start(Reached::Locally).await;
    let mut slow = Browser::open(&mesh, "fds_1", vec![watch_at(1, 30)]).await;
    slow.until_caught_up(1).await;
    let mut quick = Browser::open(&mesh, "fds_2", vec![watch_at(1, 5)]).await;
    quick.until_caught_up(1).await;
    until_watches(&mesh, 1).await;
    assert_eq!((promised(&slow, 1), promised(&quick, 1)), (30, 5));
    let frames = |b: &Browser| b.seen[&1].log.frames.len();
    let before = (frames(&slow), frames(&quick));
    for _ in 0..12 {
        mesh.clock.advance(Duration::from_secs(5));
        // Waits for the bookmark before the clock advances again: on a busy machine one would be skipped.
        let seen = frames(&quick);
        let _ = tokio::time::timeout(Duration::from_secs(10), quick.until(|b| frames(b) > seen)).await;
        slow.settle().await;
        quick.settle().await;
    }
    let (few, many) = (frames(&slow) - before.0, frames(&quick) - before.1);
    assert!((1..=3).contains(&few), "{few} of two in a minute");
    assert!((11..=13).contains(&many), "{many} of twelve in a minute");
}

#[tokio::test]
async fn a_pace_that_no_owner_keeps_ends_its_watch() {
    let mesh = Mesh::start(Reached::Locally).await;
    let mut browser = Browser::open(&mesh, "fds_1", vec![watch_at(1, 1), watch_at(2, 31)]).await;
    browser.until(|b| b.seen.values().all(|s| s.ended.is_some())).await;
    for seen in browser.seen.values() {
        assert_eq!(seen.ended.as_ref().unwrap().code, Code::InvalidArgument as i32);
    }
}

#[tokio::test]
async fn a_position_that_the_owner_never_reaches_ends_its_watch_for_the_caller_to_decide() {
    let mesh = Mesh::start(Reached::Locally).await;
    let rev = mesh.behind.owner.put("task_1", &[("a", Some(b"1"))]).await;
    let mut browser = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
    browser.until_caught_up(1).await;
    let token = browser.seen[&1].token.clone();
    browser.modify(1, vec![watch(2, "task_1", Some((&token, rev + 1_000)))], vec![]).await.unwrap();
    for _ in 0..40 {
        browser.settle().await;
        if let Some(ended) = browser.seen[&2].ended.clone() {
            let code = tonic::Code::from_i32(ended.code);
            let status = Status::with_details(code, ended.message, ended.status);
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "POSITION_AHEAD"));
            return;
        }
        mesh.clock.advance(Duration::from_secs(1));
    }
    panic!("it waits for ever");
}
