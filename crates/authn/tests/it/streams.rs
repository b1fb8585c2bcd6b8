//! When open streams end, and when they continue.

use std::time::Duration;

use crate::support::Mesh;
use foundry_authn::{Caller, StreamNotice, StreamPass, UserCaller, credential_key, membership_key, role_key};
use foundry_core::{OrganizationId, Timestamp};
use foundry_proto::common::v1::Role;
use futures::FutureExt as _;

fn pass(mesh: &Mesh) -> StreamPass {
    let user = UserCaller {
        user_id: mesh.user.clone(),
        credential_id: "crd_1".into(),
        organizations: [(mesh.organization.clone(), Role::Viewer)].into(),
        revocations_rev: 5,
        expires_at: mesh.test.env.clock.now().plus(Duration::from_secs(300)),
    };
    let clock = mesh.test.env.clock.clone();
    StreamPass::new(Caller::user(user), Some(mesh.organization.clone()), mesh.revocations.clone(), clock)
}

fn ended(notice: Option<StreamNotice>) -> Option<&'static str> {
    match notice {
        Some(StreamNotice::End(e)) => Some(e.reason()),
        _ => None,
    }
}

#[tokio::test]
async fn a_stream_outlives_the_token_that_opened_it() {
    let mesh = Mesh::new();
    let mut pass = pass(&mesh);
    mesh.test.clock.advance(Duration::from_secs(86_400));
    assert!(pass.check().is_none());
    assert!(pass.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_waiting_stream_ends_when_its_credential_is_revoked() {
    let mesh = Mesh::new();
    let mut pass = pass(&mesh);
    {
        let mut next = std::pin::pin!(pass.next());
        assert!((&mut next).now_or_never().is_none());
        mesh.revocations.add(&credential_key("crd_2"), 6);
        assert!((&mut next).now_or_never().is_none(), "another credential is no reason");
        mesh.revocations.add(&credential_key("crd_1"), 7);
        assert_eq!(ended((&mut next).now_or_never()), Some("TOKEN_REVOKED"));
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_membership_in_its_own_organization_only() {
    let mesh = Mesh::new();
    let mut pass = pass(&mesh);
    mesh.revocations.add(&membership_key(&mesh.user, &OrganizationId::generate(&mesh.test.env)), 6);
    mesh.revocations.add(&membership_key(&mesh.user, &mesh.organization), 5);
    assert!(pass.check().is_none(), "a change that the token knew already is no reason either");
    mesh.revocations.add(&membership_key(&mesh.user, &mesh.organization), 8);
    assert_eq!(ended(pass.check()), Some("MEMBERSHIP_REVOKED"));
}

#[tokio::test]
async fn a_stream_ends_with_a_new_role_in_its_own_organization_only() {
    let mesh = Mesh::new();
    let mut pass = pass(&mesh);
    mesh.revocations.add(&role_key(&mesh.user, &OrganizationId::generate(&mesh.test.env)), 6);
    mesh.revocations.add(&role_key(&mesh.user, &mesh.organization), 5);
    assert!(pass.check().is_none(), "neither another organization nor a role that the token had already");
    mesh.revocations.add(&role_key(&mesh.user, &mesh.organization), 7);
    assert_eq!(ended(pass.check()), Some("TOKEN_REVOKED"));
}

#[tokio::test]
async fn ends_at_the_tokens_expiry_after_a_notice_when_the_feed_stays_lost() {
    let mesh = Mesh::new();
    let mut pass = pass(&mesh);
    let expiry = mesh.test.env.clock.now().plus(Duration::from_secs(300));
    mesh.revocations.feed_lost(mesh.test.env.clock.now());
    mesh.test.clock.advance(Duration::from_secs(289));
    assert!(pass.check().is_none());
    mesh.test.clock.advance(Duration::from_secs(1));
    assert!(matches!(pass.check(), Some(StreamNotice::Expiring(at)) if at == expiry));
    assert!(pass.check().is_none(), "the notice is given once");
    mesh.test.clock.advance(Duration::from_secs(10));
    assert_eq!(ended(pass.check()), Some("TOKEN_EXPIRED"));
}

#[tokio::test]
async fn an_old_stream_survives_a_feed_lost_for_less_than_a_minute() {
    let mesh = Mesh::new();
    let mut pass = pass(&mesh);
    mesh.test.clock.advance(Duration::from_secs(3_600));
    mesh.revocations.feed_lost(mesh.test.env.clock.now());
    mesh.test.clock.advance(Duration::from_secs(49));
    assert!(pass.check().is_none());
    mesh.revocations.feed_restored();
    mesh.test.clock.advance(Duration::from_secs(60));
    assert!(pass.check().is_none());
    let lost: Timestamp = mesh.test.env.clock.now();
    mesh.revocations.feed_lost(lost);
    mesh.test.clock.advance(Duration::from_secs(60));
    assert_eq!(mesh.revocations.stale_since(mesh.test.env.clock.now()), Some(lost));
    assert_eq!(ended(pass.check()), Some("TOKEN_EXPIRED"));
}

#[tokio::test]
async fn a_timer_alone_wakes_a_stream_that_must_end() {
    let mesh = Mesh::new();
    let mut pass = pass(&mesh);
    mesh.revocations.feed_lost(mesh.test.env.clock.now());
    let clock = mesh.test.clock.clone();
    let (first, ()) = tokio::join!(pass.next(), async {
        clock.wait_for_sleepers(1).await;
        clock.advance(Duration::from_secs(290));
    });
    assert!(matches!(first, StreamNotice::Expiring(_)));
}

#[tokio::test]
async fn services_need_no_feed() {
    let mesh = Mesh::new();
    let clock = mesh.test.env.clock.clone();
    let mut pass = StreamPass::new(Caller::service("task"), None, mesh.revocations.clone(), clock);
    mesh.revocations.feed_lost(mesh.test.env.clock.now());
    mesh.test.clock.advance(Duration::from_secs(3_600));
    assert!(pass.check().is_none());
}

#[tokio::test]
async fn tells_a_watch_that_its_authorization_ended_and_nothing_after() {
    use foundry_watch::{AuthorizationEvent, StreamAuthorization as _};
    use futures::StreamExt as _;

    let mesh = Mesh::new();
    let pass = Box::new(pass(&mesh));
    assert_eq!(pass.caller(), Some(mesh.user.to_string()));
    let mut events = pass.events();
    assert!(events.next().now_or_never().is_none());
    mesh.revocations.add(&credential_key("crd_1"), 7);
    let Some(AuthorizationEvent::Ended(status)) = events.next().await else { panic!("no end") };
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    assert!(events.next().await.is_none());
}
