//! Owners and gateways that break off, drain and lose their history.

use std::sync::atomic::Ordering;
use std::time::Duration;

use foundry_core::Code;
use foundry_server::Exit;
use foundry_testkit::Log;

use crate::browser::{Browser, watch};
use crate::joining::until_watches;
use crate::mesh::{Mesh, Reached, bounded, reason};

async fn two_on(mesh: &Mesh, task: &str) -> (Browser, Browser) {
    let mut one = Browser::open(mesh, "fds_1", vec![watch(1, task, None)]).await;
    let mut two = Browser::open(mesh, "fds_2", vec![watch(1, task, None)]).await;
    one.until_caught_up(1).await;
    two.until_caught_up(1).await;
    until_watches(mesh, 1).await;
    (one, two)
}

#[tokio::test]
async fn browsers_see_nothing_of_an_upstream_that_breaks_off() {
    let mesh = Mesh::start_in_time(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    owner.put("task_1", &[("a", Some(b"1"))]).await;
    let (mut one, mut two) = two_on(&mesh, "task_1").await;
    for round in 0..3_u8 {
        owner.cut().await;
        let rev = owner.put("task_1", &[("a", Some(&[round])), ("b", Some(&[round]))]).await;
        one.until_at(1, rev).await;
        two.until_at(1, rev).await;
    }
    for browser in [&one, &two] {
        assert_eq!((browser.seen[&1].snapshots, browser.seen[&1].resets), (1, 0));
        browser.check(1, &owner.history("task_1"), &[]);
    }
    assert_eq!(owner.watches(), 1);
    assert_eq!(owner.opened.load(Ordering::SeqCst), 2 + 3, "each time it resumed once for both");
}

#[tokio::test]
async fn browsers_see_nothing_of_an_owner_that_drains() {
    let mesh = Mesh::start_in_time(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    let (mut one, mut two) = two_on(&mesh, "task_1").await;
    for round in 0..3_u8 {
        let write = async {
            let mut last = 0;
            for n in 0..50_u8 {
                last = owner.put("task_1", &[("a", Some(&[round, n]))]).await;
            }
            last
        };
        let (rev, ()) = tokio::join!(write, owner.drain());
        one.until_at(1, rev).await;
        two.until_at(1, rev).await;
    }
    for browser in [&one, &two] {
        assert_eq!((browser.seen[&1].snapshots, browser.seen[&1].resets), (1, 0));
        browser.check(1, &owner.history("task_1"), &[]);
    }
    until_watches(&mesh, 1).await;
    assert_eq!(owner.opened.load(Ordering::SeqCst), 2 + 3, "one successor for each that went");
}

#[tokio::test]
async fn a_snapshot_that_nobody_reads_waits_at_its_owner() {
    let mesh = Mesh::start_in_time(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    for n in 0..100_u8 {
        owner.put("task_1", &[(&format!("k{n}"), Some(&vec![n; 160_000]))]).await;
    }
    let mut unread = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
    let mut other = Browser::open(&mesh, "fds_2", vec![watch(1, "task_2", None)]).await;
    bounded(async {
        while owner.taken.load(Ordering::SeqCst) < 200_000 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    other.until_caught_up(1).await;
    other.settle().await;
    let taken = owner.taken.load(Ordering::SeqCst);
    assert!(taken < 8_000_000, "{taken} of 16,000,000 bytes: a connection's worth and a little more");
    unread.until_caught_up(1).await;
    unread.check(1, &owner.history("task_1"), &[]);
}

#[tokio::test]
async fn an_owner_that_lost_its_history_resets_its_watchers_who_meet_again() {
    let mesh = Mesh::start_in_time(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    owner.put("task_1", &[("old", Some(b"1"))]).await;
    let (mut one, mut two) = two_on(&mesh, "task_1").await;
    owner.lose_everything().await;
    owner.put("task_1", &[("new", Some(b"1"))]).await;
    one.until(|b| b.seen[&1].snapshots == 2 && b.seen[&1].is_caught_up).await;
    two.until(|b| b.seen[&1].snapshots == 2 && b.seen[&1].is_caught_up).await;
    assert_eq!((one.seen[&1].resets, two.seen[&1].resets), (1, 1));
    until_watches(&mesh, 1).await;
    let rev = owner.put("task_1", &[("new", Some(b"2"))]).await;
    one.until_at(1, rev).await;
    two.until_at(1, rev).await;
}

#[tokio::test]
async fn an_owner_that_is_away_is_waited_for_and_one_that_refuses_ends_the_watch() {
    let mesh = Mesh::start_in_time(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    owner.is_away.store(true, Ordering::SeqCst);
    let mut browser = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
    bounded(async {
        while owner.opened.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    owner.is_away.store(false, Ordering::SeqCst);
    browser.until_caught_up(1).await;
    let gone = foundry_core::Error::not_found("task", "task_1").into_status();
    owner.refused.lock().unwrap().insert("task_1".into(), gone);
    owner.cut().await;
    browser.until(|b| b.seen[&1].ended.is_some()).await;
    assert_eq!(browser.seen[&1].ended.as_ref().unwrap().code, Code::NotFound as i32);
}

#[tokio::test]
async fn an_upstream_that_cannot_be_had_again_for_ten_seconds_is_logged_and_reported() {
    let log = Log::of_warnings();
    let mesh = Mesh::start(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    let mut browser = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
    browser.until_caught_up(1).await;
    until_watches(&mesh, 1).await;
    owner.is_away.store(true, Ordering::SeqCst);
    owner.cut().await;
    let stalls = || mesh.behind.stalls.lock().unwrap().clone();
    let (step, most) = (Duration::from_millis(250), Duration::from_secs(120));
    let passed = bounded(mesh.clock.advance_until(step, most, 1, || !stalls().is_empty())).await;
    assert!(passed >= Duration::from_secs(10), "{passed:?}");
    assert_eq!(stalls(), [("WatchTask", Code::Unavailable)]);
    assert_eq!(log.count("a topic makes no progress"), 1, "{}", log.text());
}

#[tokio::test]
async fn a_gateway_that_stops_tells_its_streams_to_go_and_ends_them_well() {
    let mesh = Mesh::start_in_time(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    let (mut one, mut two) = two_on(&mesh, "task_1").await;
    mesh.gateway.signal().stop();
    one.until(|b| b.drain.is_some()).await;
    // Its streams continue until their end.
    one.end().await.unwrap();
    two.end().await.unwrap();
    assert!(two.drain.as_ref().unwrap().deadline_time.is_some());
    until_watches(&mesh, 0).await;
    let late = Browser::try_open(&mesh, "fds_3", vec![]).await.err().unwrap();
    assert_eq!(late.code(), Code::Unavailable, "{}", reason(&late));
    assert_eq!(bounded(mesh.gateway.ended()).await, Exit::Clean);
    one.check(1, &owner.history("task_1"), &[]);
}

#[tokio::test]
async fn browsers_go_on_where_they_were_when_what_reads_for_them_has_a_defect() {
    let mesh = Mesh::start_in_time(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    owner.put("task_1", &[("a", Some(b"1"))]).await;
    let (mut one, mut two) = two_on(&mesh, "task_1").await;
    mesh.behind.panics.store(true, Ordering::SeqCst);
    owner.cut().await;
    let rev = owner.put("task_1", &[("a", Some(b"2"))]).await;
    for browser in [&mut one, &mut two] {
        browser.until_at(1, rev).await;
        browser.check(1, &owner.history("task_1"), &[]);
    }
    assert!(!mesh.behind.panics.load(Ordering::SeqCst), "it had its defect");
}
