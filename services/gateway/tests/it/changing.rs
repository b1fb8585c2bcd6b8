//! Changes to the watches of an open stream.

use std::time::Duration;

use foundry_core::Code;
use foundry_proto::edge::v1::ModifyWatchesRequest;

use crate::browser::{Browser, client, watch};
use crate::joining::until_watches;
use crate::mesh::{Mesh, Reached, bounded, reason, with_token};

#[tokio::test]
async fn watches_are_added_and_removed_while_the_stream_goes_on() {
    let mesh = Mesh::start_in_time(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    let mut browser = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
    browser.until_caught_up(1).await;
    assert_eq!(browser.modify(1, vec![watch(2, "task_2", None)], vec![1]).await.unwrap(), 1);
    browser.until(|b| b.modified == [1]).await;
    let frames = browser.seen[&1].log.frames.len();
    browser.until_caught_up(2).await;
    owner.put("task_1", &[("a", Some(b"1"))]).await;
    let rev = owner.put("task_2", &[("a", Some(b"1"))]).await;
    browser.until_at(2, rev).await;
    browser.check(2, &owner.history("task_2"), &[]);
    assert_eq!(browser.seen[&1].log.frames.len(), frames, "nothing of what was removed");
    // Back again, under another number, within the grace of its topic.
    browser.modify(2, vec![watch(3, "task_1", None)], vec![]).await.unwrap();
    browser.until_caught_up(3).await;
    browser.check(3, &owner.history("task_1"), &[]);
}

#[tokio::test]
async fn a_repeated_change_is_taken_once_and_a_missing_one_is_noticed() {
    let mesh = Mesh::start(Reached::Locally).await;
    let mut browser = Browser::open(&mesh, "fds_1", vec![]).await;
    assert_eq!(browser.modify(1, vec![watch(1, "task_1", None)], vec![]).await.unwrap(), 1);
    browser.until_caught_up(1).await;
    assert_eq!(browser.modify(1, vec![watch(9, "task_9", None)], vec![1]).await.unwrap(), 1);
    let gap = browser.modify(3, vec![], vec![1]).await.unwrap_err();
    assert_eq!((gap.code(), reason(&gap).as_str()), (Code::FailedPrecondition, "WATCH_SET_GAP"));
    assert_eq!(browser.modify(2, vec![watch(2, "task_2", None)], vec![]).await.unwrap(), 2);
    browser.until_caught_up(2).await;
    assert_eq!(browser.modified, [1, 2]);
    assert!(browser.seen[&9].log.frames.is_empty());
    let rev = mesh.behind.owner.put("task_1", &[("a", Some(b"1"))]).await;
    browser.until_at(1, rev).await;
}

#[tokio::test]
async fn a_stream_is_changed_by_its_own_credential_only() {
    let mesh = Mesh::start(Reached::Locally).await;
    let browser = Browser::open(&mesh, "fds_1", vec![]).await;
    let cases = [
        (browser.stream_id.as_str(), "fds_2".to_owned()),
        ("", "fds_1".to_owned()),
        ("00000000000000000000000000000000", "fds_1".to_owned()),
    ];
    let mut said = Vec::new();
    for (stream_id, token) in cases {
        let request = ModifyWatchesRequest { stream_id: stream_id.into(), version: 1, ..Default::default() };
        let status = bounded(client(&mesh).modify_watches(with_token(request, &token))).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "WATCH_STREAM_UNKNOWN"));
        said.push(status.message().to_owned());
    }
    assert!(said.windows(2).all(|w| w[0] == w[1]), "foreign and absent are the same");
    // A renewed token of the same credential is the same caller.
    let request =
        ModifyWatchesRequest { stream_id: browser.stream_id.clone(), version: 1, ..Default::default() };
    let renewed = mesh.behind.jwt("crd_fds_1");
    bounded(client(&mesh).modify_watches(with_token(request, &renewed))).await.unwrap();
    let gone = browser.stream_id.clone();
    drop(browser);
    bounded(async {
        loop {
            let request = ModifyWatchesRequest { stream_id: gone.clone(), version: 1, ..Default::default() };
            let answer = client(&mesh).modify_watches(with_token(request, "fds_1")).await;
            if answer.is_err_and(|status| status.code() == Code::NotFound) {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_topic_outlives_its_last_reader_by_its_grace_and_not_longer() {
    let mesh = Mesh::start(Reached::Locally).await;
    let mut browser = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
    browser.until_caught_up(1).await;
    let sleepers = mesh.clock.sleepers();
    browser.modify(1, vec![], vec![1]).await.unwrap();
    browser.until(|b| b.modified == [1]).await;
    mesh.clock.wait_for_sleepers(sleepers + 1).await;
    mesh.clock.advance(Duration::from_secs(4));
    assert_eq!(mesh.behind.owner.watches(), 1);
    mesh.clock.advance(Duration::from_secs(2));
    until_watches(&mesh, 0).await;
}

#[tokio::test]
async fn one_that_goes_away_leaves_nothing_behind() {
    let mesh = Mesh::start_in_time(Reached::Remotely).await;
    let mut browser =
        Browser::open(&mesh, "fds_1", (1..20).map(|n| watch(n, &format!("task_{n}"), None)).collect()).await;
    browser.until(|b| b.seen.values().all(|s| s.is_caught_up)).await;
    assert_eq!(mesh.behind.owner.watches(), 19);
    drop(browser);
    until_watches(&mesh, 0).await;
}

#[tokio::test]
async fn a_quiet_stream_beats_and_its_watches_get_bookmarks_at_that_pace() {
    let mesh = Mesh::start(Reached::Locally).await;
    let mut browser = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
    browser.until_caught_up(1).await;
    let frames = browser.seen[&1].log.frames.len();
    for _ in 0..4 {
        let before = (browser.heartbeats, browser.seen[&1].log.frames.len());
        for _ in 0..3 {
            // In small steps, because owners that do not send heartbeats in time count as lost.
            mesh.clock.advance(Duration::from_secs(5));
            browser.settle().await;
        }
        browser.until(|b| b.heartbeats > before.0 || b.seen[&1].log.frames.len() > before.1).await;
    }
    browser.settle().await;
    let bookmarks = browser.seen[&1].log.frames.len() - frames;
    assert!((3..=5).contains(&bookmarks), "{bookmarks} in four heartbeats");
    browser.check(1, &mesh.behind.owner.history("task_1"), &[]);
}
