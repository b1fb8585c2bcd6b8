//! Callers whose membership changes during a watch, or just before it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use foundry_authn::{membership_key, role_key};
use foundry_core::{Code, Env, OrganizationId};
use foundry_proto::edge::v1::ModifyWatchesRequest;
use tokio_util::sync::CancellationToken;

use crate::browser::{Browser, client, watch};
use crate::mesh::{Mesh, Reached, bounded, reason, with_token};

/// A mesh in which the user is not a member, and the gateway has cached its token.
async fn with_a_stranger() -> Mesh {
    let mesh = Mesh::start(Reached::Locally).await;
    mesh.behind.is_member.store(false, Ordering::SeqCst);
    mesh.get("task_1", "fds_1").await.unwrap();
    mesh
}

/// Makes the user a member; the gateway learns of it later.
fn join(mesh: &Mesh) {
    mesh.behind.is_member.store(true, Ordering::SeqCst);
    mesh.behind.revision.store(9, Ordering::SeqCst);
}

async fn until_asked(mesh: &Mesh, times: usize) {
    bounded(async {
        while mesh.behind.calls("/AuthorizeWatch") < times {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_who_joins_and_at_once_watches_is_asked_for_under_a_new_token() {
    let mesh = with_a_stranger().await;
    join(&mesh);
    let subs = vec![watch(1, "task_1", None), watch(2, "task_2", None), watch(3, "absent", None)];
    // The clock is not advanced, and the gateway has no notice of the change.
    let mut browser = Browser::open(&mesh, "fds_1", subs).await;
    browser.until_caught_up(1).await;
    browser.until_caught_up(2).await;
    browser.until(|b| b.seen[&3].ended.is_some()).await;
    assert_eq!(browser.seen[&3].ended.as_ref().unwrap().code, Code::NotFound as i32);
    assert_eq!(mesh.behind.exchanges.load(Ordering::SeqCst), 2, "one for all three");
}

#[tokio::test]
async fn refused_watches_cost_one_exchange_a_second_and_nobody_waits_for_them() {
    let mesh = Mesh::start(Reached::Locally).await;
    let mut browser = Browser::open(&mesh, "fds_1", vec![watch(1, "absent", None)]).await;
    browser.until(|b| b.seen[&1].ended.is_some()).await;
    assert_eq!(mesh.behind.exchanges.load(Ordering::SeqCst), 2);
    let absent = (2..100).map(|n| watch(n, "absent", None)).chain([watch(100, "task_1", None)]);
    browser.modify(1, absent.collect(), vec![]).await.unwrap();
    browser.until_caught_up(100).await;
    browser.settle().await;
    assert!((2..100).all(|n| browser.seen[&n].ended.is_none()), "they wait for the next token");
    assert_eq!(mesh.behind.exchanges.load(Ordering::SeqCst), 2);
    mesh.clock.advance(Duration::from_secs(1));
    browser.until(|b| (2..100).all(|n| b.seen[&n].ended.is_some())).await;
    assert_eq!(mesh.behind.exchanges.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_role_added_between_question_and_answer_counts() {
    let mesh = with_a_stranger().await;
    let held = CancellationToken::new();
    *mesh.behind.owner.held.lock().unwrap() = Some(held.clone());
    let mut browser = Browser::open(&mesh, "fds_1", vec![watch(1, "task_1", None)]).await;
    until_asked(&mesh, 1).await;
    join(&mesh);
    mesh.revocations.add(&role_key(&mesh.behind.user, &mesh.behind.organization), 9);
    held.cancel();
    for _ in 0..20 {
        browser.settle().await;
        assert!(browser.seen[&1].ended.is_none(), "{:?}", browser.seen[&1].ended);
        if browser.seen[&1].is_caught_up {
            return;
        }
        mesh.clock.advance(Duration::from_secs(1));
    }
    panic!("nothing came");
}

#[tokio::test]
async fn a_token_that_nobody_can_renew_ends_the_stream_when_a_membership_changes() {
    for is_lost in [true, false] {
        let mesh = Mesh::start(Reached::Locally).await;
        let jwt = mesh.behind.jwt("crd_1");
        let mut browser = Browser::open(&mesh, &jwt, vec![watch(1, "task_1", None)]).await;
        browser.until_caught_up(1).await;
        let other = OrganizationId::generate(&Env::system());
        let user = &mesh.behind.user;
        let lost = membership_key(user, &mesh.behind.organization);
        mesh.revocations.add(&if is_lost { lost } else { role_key(user, &other) }, 9);
        let status = browser.end().await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "TOKEN_REVOKED"));
    }
}

#[tokio::test]
async fn a_newer_token_of_the_same_credential_keeps_the_stream_of_one_that_changed() {
    let mesh = Mesh::start(Reached::Locally).await;
    let jwt = mesh.behind.jwt("crd_1");
    let mut browser = Browser::open(&mesh, &jwt, vec![watch(1, "task_1", None)]).await;
    browser.until_caught_up(1).await;
    mesh.behind.revision.store(9, Ordering::SeqCst);
    let renewed = mesh.behind.jwt("crd_1");
    let request =
        ModifyWatchesRequest { stream_id: browser.stream_id.clone(), version: 1, ..Default::default() };
    bounded(client(&mesh).modify_watches(with_token(request, &renewed))).await.unwrap();
    let other = OrganizationId::generate(&Env::system());
    mesh.revocations.add(&membership_key(&mesh.behind.user, &other), 9);
    let rev = mesh.behind.owner.put("task_1", &[("a", Some(b"1"))]).await;
    browser.until_at(1, rev).await;
}
