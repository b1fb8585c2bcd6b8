//! Users with very many watches, and streams that are not read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use foundry_core::Code;
use foundry_gateway::Config;

use crate::browser::{Browser, watch};
use crate::mesh::{Mesh, Reached, bounded};

#[tokio::test]
async fn a_user_has_so_many_watches_over_all_streams_and_credentials() {
    let mesh = Mesh::start_with(Reached::Locally, Config { watches_per_user: 3, ..Config::default() }).await;
    let two = vec![watch(1, "task_1", None), watch(2, "task_2", None)];
    let mut one = Browser::open(&mesh, "fds_1", two.clone()).await;
    one.until(|b| b.seen.values().all(|seen| seen.is_caught_up)).await;
    let mut other = Browser::open(&mesh, "fds_2", two).await;
    other.until(|b| b.seen[&1].is_caught_up && b.seen[&2].ended.is_some()).await;
    let ended = other.seen[&2].ended.clone().unwrap();
    let status = tonic::Status::with_details(Code::from_i32(ended.code), &ended.message, ended.status);
    assert_eq!(status.code(), Code::ResourceExhausted);
    let details = tonic_types::StatusExt::get_error_details(&status);
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "LIMIT_REACHED");
    let expected = [("limit", "watches_per_user"), ("scope", "user"), ("current", "3"), ("maximum", "3")];
    for (name, value) in expected {
        assert_eq!(info.metadata[name], value);
    }
    assert!(details.retry_info().is_some());
    one.modify(1, vec![], vec![2]).await.unwrap();
    one.until(|b| b.modified == [1]).await;
    other.modify(1, vec![watch(3, "task_2", None)], vec![]).await.unwrap();
    other.until_caught_up(3).await;
}

#[tokio::test]
async fn a_user_starts_a_few_watches_at_once_and_the_rest_when_those_are_done() {
    let mesh = Mesh::start(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    owner.hangs.store(true, Ordering::SeqCst);
    let mut browsers = Vec::new();
    for stream in 0..4_u32 {
        let watches = (1..=10).map(|n| watch(n, &format!("task_{stream}_{n}"), None)).collect();
        browsers.push(Browser::open(&mesh, &format!("fds_{stream}"), watches).await);
    }
    bounded(async {
        while mesh.behind.calls("/AuthorizeWatch") < 40 || owner.opened.load(Ordering::SeqCst) < 8 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for browser in &mut browsers {
        browser.settle().await;
    }
    assert_eq!(owner.opened.load(Ordering::SeqCst), 8, "of four streams");
    mesh.clock.advance(Duration::from_secs(15));
    for browser in &mut browsers {
        browser.until(|b| b.heartbeats > 0).await;
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_no_more_than_its_share_however_many_its_watches() {
    let mesh = Mesh::start_in_time(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    for n in 1..=120 {
        let content = vec![7; 60_000];
        owner.put(&format!("task_{n}"), &[("a", Some(&content)), ("b", Some(&content))]).await;
    }
    let watches = (1..=120).map(|n| watch(n, &format!("task_{n}"), None)).collect();
    let mut unread = Browser::open(&mesh, "fds_1", watches).await;
    bounded(async {
        while owner.taken.load(Ordering::SeqCst) < 400_000 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Another page of the same user is still served.
    let mut other = Browser::open(&mesh, "fds_2", vec![watch(1, "task_1", None)]).await;
    other.until_caught_up(1).await;
    other.settle().await;
    let taken = owner.taken.load(Ordering::SeqCst);
    assert!(
        taken < 3_000_000,
        "{taken} of 14,400,000 bytes: what is under way to the browser, and its share"
    );
    unread.until(|b| b.seen.values().all(|seen| seen.is_caught_up)).await;
    for n in [1, 60, 120] {
        unread.check(n, &owner.history(&format!("task_{n}")), &[]);
    }
}
