//! How watches come to share one upstream, and what each browser receives while they do.

use std::sync::atomic::Ordering;

use crate::browser::{Browser, watch};
use crate::mesh::{Mesh, Reached, bounded};
use crate::owner::claims;

/// Waits until the owner serves this many watches.
pub async fn until_watches(mesh: &Mesh, count: usize) {
    bounded(async {
        while mesh.behind.owner.watches() != count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn two_browsers_on_one_view_cause_one_upstream_stream_and_see_the_same() {
    for reached in [Reached::Locally, Reached::Remotely] {
        let mesh = Mesh::start_in_time(reached).await;
        let owner = &mesh.behind.owner;
        owner.put("task_1", &[("a", Some(b"1")), ("b", Some(b"1"))]).await;
        let mut one = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
        one.until_caught_up(1).await;
        let mut two = Browser::open(&mesh, "fds_2", vec![watch(7, "task_1", None)]).await;
        two.until_caught_up(7).await;
        until_watches(&mesh, 1).await;
        let mut last = 0;
        for n in 0..40_u8 {
            last = owner.put("task_1", &[("a", Some(&[n])), ("c", (n % 3 > 0).then_some(&[n]))]).await;
        }
        one.until_at(1, last).await;
        two.until_at(7, last).await;
        let history = owner.history("task_1");
        one.check(1, &history, &[]);
        two.check(7, &history, &[]);
        assert_eq!((owner.watches(), owner.opened.load(Ordering::SeqCst)), (1, 2), "{reached:?}");
    }
}

#[tokio::test]
async fn the_edge_asks_under_the_callers_token_and_watches_in_its_own_name() {
    let mesh = Mesh::start(Reached::Locally).await;
    let mut one = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
    one.until_caught_up(1).await;
    let asked = claims(&mesh.behind.last_headers("/AuthorizeWatch"));
    assert!(asked.contains(mesh.behind.user.as_str()), "{asked}");
    let watched = claims(&mesh.behind.last_headers("/WatchTask"));
    assert!(watched.contains("service:gateway") && !watched.contains(mesh.behind.user.as_str()), "{watched}");
}

#[tokio::test]
async fn one_that_resumes_joins_the_others_without_a_snapshot_of_its_own() {
    let mesh = Mesh::start_in_time(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    owner.put("task_1", &[("a", Some(b"1"))]).await;
    let mut one = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
    let mut early = Browser::open(&mesh, "fds_2", vec![watch(1, "task_1", None)]).await;
    one.until_caught_up(1).await;
    early.until_caught_up(1).await;
    let before = early.seen.remove(&1).unwrap();
    drop(early);
    let snapshots = owner.snapshots();
    let mut last = 0;
    for n in 0..20_u8 {
        last = owner.put("task_1", &[("b", Some(&[n]))]).await;
    }
    let resume = Some((before.token.as_str(), before.rev));
    let mut late = Browser::open(&mesh, "fds_3", vec![watch(4, "task_1", resume)]).await;
    late.until_caught_up(4).await;
    until_watches(&mesh, 1).await;
    last = owner.put("task_1", &[("c", Some(b"x"))]).await.max(last);
    late.until_at(4, last).await;
    one.until_at(1, last).await;
    assert!(late.seen[&4].resumed && late.seen[&4].snapshots == 0);
    assert_eq!(owner.snapshots(), snapshots);
    late.check(4, &owner.history("task_1"), &[before.log]);
    one.check(1, &owner.history("task_1"), &[]);
}

#[tokio::test]
async fn whoever_comes_while_much_is_written_misses_nothing_and_gets_nothing_twice() {
    let mesh = Mesh::start_in_time(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    let writing = async {
        let mut last = 0;
        for n in 0..400_u16 {
            let content = n.to_le_bytes();
            let keys = [format!("k{}", n % 17), format!("l{}", n % 5)];
            let gone = n % 7 == 0;
            last = owner
                .put("task_1", &[(&keys[0], Some(&content)), (&keys[1], (!gone).then_some(&content))])
                .await;
            tokio::task::yield_now().await;
        }
        last
    };
    let coming = async {
        let mut browsers = Vec::new();
        for n in 0..12 {
            let mut browser = Browser::open(&mesh, &format!("fds_{n}"), vec![watch(1, "task_1", None)]).await;
            browser.until(|b| b.seen[&1].rev > 0).await;
            browsers.push(browser);
        }
        browsers
    };
    let (last, browsers) = tokio::join!(writing, coming);
    let history = owner.history("task_1");
    for mut browser in browsers {
        browser.until_at(1, last).await;
        browser.check(1, &history, &[]);
    }
    until_watches(&mesh, 1).await;
}

#[tokio::test]
async fn one_that_does_not_read_harms_nobody_and_ends_at_the_same_state() {
    let mesh = Mesh::start_in_time(Reached::Remotely).await;
    let owner = &mesh.behind.owner;
    let mut slow = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
    let mut quick = Browser::open(&mesh, "fds_2", vec![watch(1, "task_1", None)]).await;
    slow.until_caught_up(1).await;
    quick.until_caught_up(1).await;
    until_watches(&mesh, 1).await;
    // Four times what the ring keeps, and more than fits into the connection of the slow one.
    let mut last = 0;
    for n in 0..300_u16 {
        let key = format!("k{}", n % 40);
        last = owner.put("task_1", &[(&key, Some(&vec![u8::try_from(n % 251).unwrap(); 12_000]))]).await;
        quick.until_at(1, last).await;
    }
    slow.until_at(1, last).await;
    let history = owner.history("task_1");
    slow.check(1, &history, &[]);
    quick.check(1, &history, &[]);
    let frames = slow.seen[&1].log.frames.len();
    assert!(frames < quick.seen[&1].log.frames.len() / 2, "what it missed was conflated: {frames}");
    assert_eq!(slow.seen[&1].resets, 0);
    until_watches(&mesh, 1).await;
}

#[tokio::test]
async fn a_busy_topic_leaves_the_others_their_turns() {
    let mesh = Mesh::start_in_time(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    let subs = vec![watch(1, "busy", None), watch(2, "quiet", None)];
    let mut browser = Browser::open(&mesh, "fds_1", subs).await;
    browser.until_caught_up(1).await;
    browser.until_caught_up(2).await;
    browser.order.clear();
    let mut busy = 0;
    for n in 0..200_u8 {
        busy = owner.put("busy", &[("a", Some(&vec![n; 20_000]))]).await;
        if n == 100 {
            owner.put("quiet", &[("q", Some(b"x"))]).await;
        }
    }
    browser.until_at(2, 1).await;
    browser.until_at(1, busy).await;
    let order = &browser.order;
    let turn = order.iter().position(|sub_id| *sub_id == 2).unwrap();
    assert!(turn + 1 < order.len(), "it did not wait for the busy one's end: {turn} of {}", order.len());
    browser.check(1, &owner.history("busy"), &[]);
    browser.check(2, &owner.history("quiet"), &[]);
}
