//! Streams whose caller loses a right.

use std::sync::atomic::Ordering;
use std::time::Duration;

use foundry_authn::{credential_key, membership_key, role_key};
use foundry_core::Code;

use crate::browser::{Browser, watch};
use crate::mesh::{Mesh, Reached, reason};

#[tokio::test]
async fn a_revoked_credential_ends_the_stream_and_nothing_follows() {
    let mesh = Mesh::start(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    let mut revoked = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
    let mut other = Browser::open(&mesh, "fds_2", vec![watch(1, "task_1", None)]).await;
    revoked.until_caught_up(1).await;
    other.until_caught_up(1).await;
    let frames = revoked.seen[&1].log.frames.len();
    mesh.revocations.add(&credential_key("crd_fds_1"), 9);
    let rev = owner.put("task_1", &[("a", Some(b"1"))]).await;
    let status = revoked.end().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "TOKEN_REVOKED"));
    assert_eq!(revoked.seen[&1].log.frames.len(), frames);
    other.until_at(1, rev).await;
}

#[tokio::test]
async fn a_lost_membership_ends_its_watches_at_once_and_the_stream_stays() {
    let mesh = Mesh::start(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    let subs = vec![watch(1, "task_1", None), watch(2, "task_2", None)];
    let mut browser = Browser::open(&mesh, "fds_1", subs).await;
    browser.until(|b| b.seen.values().all(|s| s.is_caught_up)).await;
    let frames = browser.seen[&1].log.frames.len();
    // The clock is not advanced: the end must not wait for a timer.
    mesh.behind.is_member.store(false, Ordering::SeqCst);
    mesh.behind.revision.store(9, Ordering::SeqCst);
    mesh.revocations.add(&membership_key(&mesh.behind.user, &mesh.behind.organization), 9);
    owner.put("task_1", &[("a", Some(b"1"))]).await;
    browser.until(|b| b.seen.values().all(|s| s.ended.is_some())).await;
    for seen in browser.seen.values() {
        assert_eq!(seen.ended.as_ref().unwrap().code, Code::PermissionDenied as i32);
    }
    assert_eq!(browser.seen[&1].log.frames.len(), frames);
    // The stream belongs to the credential and stays; a new watch is refused as for any stranger.
    browser.modify(1, vec![watch(3, "task_1", None)], vec![]).await.unwrap();
    mesh.clock.advance(Duration::from_secs(2));
    browser.until(|b| b.seen[&3].ended.is_some()).await;
    assert_eq!(browser.seen[&3].ended.as_ref().unwrap().code, Code::NotFound as i32);
}

#[tokio::test]
async fn a_changed_role_is_judged_by_the_owner_under_a_new_token_before_anything_is_sent() {
    let mesh = Mesh::start(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    let subs = vec![watch(1, "task_1", None), watch(2, "task_2", None)];
    let mut browser = Browser::open(&mesh, "fds_1", subs).await;
    browser.until(|b| b.seen.values().all(|s| s.is_caught_up)).await;
    mesh.clock.advance(Duration::from_secs(2));
    let (asked, exchanged) =
        (mesh.behind.calls("/AuthorizeWatch"), mesh.behind.exchanges.load(Ordering::SeqCst));
    owner.is_silent.store(true, Ordering::SeqCst);
    let denied = tonic::Status::permission_denied("no more");
    owner.refused.lock().unwrap().insert("task_2".into(), denied);
    mesh.behind.revision.store(9, Ordering::SeqCst);
    mesh.revocations.add(&role_key(&mesh.behind.user, &mesh.behind.organization), 9);
    let rev = owner.put("task_1", &[("a", Some(b"1"))]).await;
    crate::mesh::bounded(async {
        while mesh.behind.calls("/AuthorizeWatch") < asked + 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    browser.settle().await;
    assert!(browser.seen[&1].rev < rev, "its owner has not said yes again");
    assert_eq!(mesh.behind.exchanges.load(Ordering::SeqCst), exchanged + 1);
    owner.is_silent.store(false, Ordering::SeqCst);
    // The unanswered authorization requests time out and are sent again.
    for _ in 0..20 {
        mesh.clock.advance(Duration::from_secs(6));
        browser.settle().await;
        if browser.seen[&1].rev >= rev && browser.seen[&2].ended.is_some() {
            break;
        }
    }
    browser.until_at(1, rev).await;
    browser.check(1, &owner.history("task_1"), &[]);
    assert_eq!(browser.seen[&2].ended.as_ref().unwrap().code, Code::PermissionDenied as i32);
}

#[tokio::test]
async fn a_token_that_nobody_can_renew_ends_the_stream_when_a_role_changes() {
    let mesh = Mesh::start(Reached::Locally).await;
    let jwt = mesh.behind.jwt("crd_1");
    let mut browser = Browser::open(&mesh, &jwt, vec![watch(1, "task_1", None)]).await;
    browser.until_caught_up(1).await;
    mesh.revocations.add(&role_key(&mesh.behind.user, &mesh.behind.organization), 9);
    let status = browser.end().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "TOKEN_REVOKED"));
}

#[tokio::test]
async fn a_stream_outlives_the_token_that_opened_it() {
    let mesh = Mesh::start(Reached::Locally).await;
    let jwt = mesh.behind.jwt("crd_1");
    let mut browser = Browser::open(&mesh, &jwt, vec![watch(1, "task_1", None)]).await;
    browser.until_caught_up(1).await;
    mesh.clock.advance(Duration::from_secs(400));
    let rev = mesh.behind.owner.put("task_1", &[("a", Some(b"1"))]).await;
    for _ in 0..20 {
        mesh.clock.advance(Duration::from_secs(1));
        browser.settle().await;
        if browser.seen[&1].rev >= rev {
            return;
        }
    }
    panic!("nothing came");
}

#[tokio::test]
async fn without_the_feed_of_revocations_the_stream_ends_with_its_token_after_a_warning() {
    let mesh = Mesh::start(Reached::Locally).await;
    let mut browser = Browser::open(&mesh, "fds_1", vec![]).await;
    mesh.revocations.feed_lost(foundry_core::Clock::now(&*mesh.clock));
    browser.settle().await;
    mesh.clock.advance(Duration::from_secs(295));
    browser.settle().await;
    mesh.clock.advance(Duration::from_secs(10));
    let status = browser.end().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "TOKEN_EXPIRED"));
}
