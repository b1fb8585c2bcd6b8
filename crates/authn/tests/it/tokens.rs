//! Every way a token can be wrong, and that only the good ones pass.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{Mesh, bearer, published};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foundry_authn::{
    Caller, Claims, KeyRing, Signer, TokenError, TokenKind, Verifier, credential_key, membership_key,
    role_key,
};
use foundry_proto::common::v1::Role;

fn verifier(mesh: &Mesh, service: &str) -> Verifier {
    let keys = KeyRing::new(mesh.source.clone(), mesh.test.env.clock.clone());
    Verifier::new(service, keys, mesh.test.env.clock.clone())
}

async fn refusal(mesh: &Mesh, token: &str) -> TokenError {
    verifier(mesh, "task").verify(token).await.expect_err("the token must be refused")
}

async fn refusal_of(mesh: &Mesh, kind: TokenKind, claims: Claims) -> TokenError {
    refusal(mesh, &mesh.auth.mint(kind, &claims).unwrap()).await
}

#[tokio::test]
async fn knows_user_credential_and_roles_of_a_good_token() {
    let mesh = Mesh::new();
    let caller = verifier(&mesh, "task").verify(&mesh.token()).await.unwrap();
    let user = caller.as_user().unwrap();
    assert_eq!((&user.user_id, user.credential_id.as_str()), (&mesh.user, "crd_1"));
    assert_eq!(caller.role_in(&mesh.organization), Some(Role::Member));
    assert_eq!(caller.actor(), mesh.user.to_string());
}

#[tokio::test]
async fn refuses_a_tampered_token_wherever_it_is_tampered_with() {
    let mesh = Mesh::new();
    let (token, verifier) = (mesh.token(), verifier(&mesh, "task"));
    for at in (0..token.len()).step_by(11) {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let tampered = String::from_utf8(bytes).unwrap();
        assert!(verifier.verify(&tampered).await.is_err(), "byte {at}");
    }
}

#[tokio::test]
async fn refuses_claims_swapped_under_a_good_signature() {
    let mesh = Mesh::new();
    let token = mesh.token();
    let mut claims = mesh.claims();
    claims.orgs.values_mut().for_each(|role| *role = "owner".into());
    let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap());
    let parts: Vec<_> = token.split('.').collect();
    let forged = format!("{}.{body}.{}", parts[0], parts[2]);
    assert!(matches!(refusal(&mesh, &forged).await, TokenError::Malformed(_)));
}

#[tokio::test]
async fn refuses_every_algorithm_but_eddsa() {
    let mesh = Mesh::new();
    let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&mesh.claims()).unwrap());
    for (alg, signature) in [("none", ""), ("None", ""), ("HS256", "c2ln"), ("EdDSA", "")] {
        let header = serde_json::json!({"alg": alg, "typ": "foundry-at+jwt", "kid": mesh.auth.key_id()});
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        let token = format!("{header}.{body}.{signature}");
        assert!(matches!(refusal(&mesh, &token).await, TokenError::Malformed(_)), "{alg}");
    }
    // The public key as an HMAC secret: the classic confusion of algorithms.
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.typ = Some("foundry-at+jwt".into());
    header.kid = Some(mesh.auth.key_id().into());
    let secret = jsonwebtoken::EncodingKey::from_secret(mesh.auth.public_key());
    let token = jsonwebtoken::encode(&header, &mesh.claims(), &secret).unwrap();
    assert!(matches!(refusal(&mesh, &token).await, TokenError::Malformed(_)));
}

#[tokio::test]
async fn refuses_garbage_and_oversize() {
    let mesh = Mesh::new();
    for bad in ["", ".", "..", "a.b.c", "fpat_0123", "\u{e9}.\u{e9}.\u{e9}", &"x".repeat(100_000)] {
        assert!(matches!(refusal(&mesh, bad).await, TokenError::Malformed(_)));
    }
}

#[tokio::test]
async fn ends_with_its_time_also_when_verified_before() {
    let mesh = Mesh::new();
    let (token, verifier) = (mesh.token(), verifier(&mesh, "task"));
    verifier.verify(&token).await.unwrap();
    mesh.test.clock.advance(Duration::from_secs(304));
    verifier.verify(&token).await.unwrap();
    mesh.test.clock.advance(Duration::from_secs(1));
    assert_eq!(verifier.verify(&token).await.unwrap_err(), TokenError::Expired);
    assert_eq!(refusal(&mesh, &token).await, TokenError::Expired);
}

#[tokio::test]
async fn refuses_times_that_make_no_sense() {
    let mesh = Mesh::new();
    let now = mesh.now();
    for (iat, exp) in [(now, now + 301), (now + 60, now + 300), (now, now), (0, i64::MAX), (i64::MIN, 1)] {
        let claims = Claims { iat, exp, ..mesh.claims() };
        let refused = refusal_of(&mesh, TokenKind::User, claims).await;
        assert!(matches!(refused, TokenError::Malformed(_)), "{iat} {exp}: {refused:?}");
    }
}

#[tokio::test]
async fn refuses_a_token_for_another_service() {
    let mesh = Mesh::new();
    let token = mesh.task.token("repo").unwrap();
    assert_eq!(refusal(&mesh, &token).await, TokenError::Audience);
    let caller = verifier(&mesh, "repo").verify(&token).await.unwrap();
    assert!(caller.is_service("task"));
    let claims = Claims { aud: "task".into(), ..mesh.claims() };
    assert_eq!(refusal_of(&mesh, TokenKind::User, claims).await, TokenError::Audience);
}

#[tokio::test]
async fn a_key_speaks_for_its_owner_alone() {
    let mesh = Mesh::new();
    let task = Signer::new("task", &mesh.task_key).unwrap();
    let as_gateway = Claims {
        iss: "service:gateway".into(),
        sub: "service:gateway".into(),
        aud: "task".into(),
        orgs: Default::default(),
        ..mesh.claims()
    };
    let as_task_for_gateway = Claims { iss: "service:task".into(), ..as_gateway.clone() };
    let user_by_task = Claims { iss: "service:task".into(), ..mesh.claims() };
    for (kind, claims) in [
        (TokenKind::Service, as_gateway),
        (TokenKind::Service, as_task_for_gateway),
        (TokenKind::User, mesh.claims()),
        (TokenKind::User, user_by_task),
    ] {
        let token = task.mint(kind, &claims).unwrap();
        assert!(matches!(refusal(&mesh, &token).await, TokenError::Malformed(_)), "{kind:?} {claims:?}");
    }
}

#[tokio::test]
async fn one_kind_of_token_does_not_stand_in_for_the_other() {
    let mesh = Mesh::new();
    let refused = refusal_of(&mesh, TokenKind::Service, mesh.claims()).await;
    assert!(matches!(refused, TokenError::Malformed(_)));
}

#[tokio::test]
async fn reads_the_keys_again_for_an_unknown_key_but_not_at_every_try() {
    let mesh = Mesh::new();
    let verifier = verifier(&mesh, "task");
    verifier.verify(&mesh.token()).await.unwrap();
    let other = Signer::new("auth", &Signer::generate_key(&mesh.test.env)).unwrap();
    let token = other.mint(TokenKind::User, &mesh.claims()).unwrap();
    mesh.test.clock.advance(Duration::from_secs(3));
    for _ in 0..50 {
        assert_eq!(verifier.verify(&token).await.unwrap_err(), TokenError::UnknownKey);
    }
    assert_eq!(mesh.source.reads.load(Ordering::SeqCst), 2);
    mesh.source.set(vec![published(&other)]);
    mesh.test.clock.advance(Duration::from_secs(3));
    verifier.verify(&token).await.unwrap();
}

#[tokio::test]
async fn a_key_published_right_after_a_reading_is_waited_for() {
    let mesh = Mesh::new();
    let verifier = verifier(&mesh, "task");
    verifier.verify(&mesh.token()).await.unwrap();
    let other = Signer::new("auth", &Signer::generate_key(&mesh.test.env)).unwrap();
    mesh.source.set(vec![published(&other)]);
    mesh.test.clock.advance(Duration::from_millis(10));
    let token = other.mint(TokenKind::User, &mesh.claims()).unwrap();
    let clock = &mesh.test.clock;
    let later = async {
        clock.wait_for_sleepers(1).await;
        clock.advance(Duration::from_secs(1));
    };
    let (first, second, ()) = tokio::join!(verifier.verify(&token), verifier.verify(&token), later);
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(mesh.source.reads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_withdrawn_key_verifies_nothing_any_more_remembered_or_not() {
    let mesh = Mesh::new();
    let verifier = verifier(&mesh, "task");
    let token = mesh.token();
    verifier.verify(&token).await.unwrap();
    let other = Signer::new("auth", &Signer::generate_key(&mesh.test.env)).unwrap();
    mesh.source.set(vec![published(&other)]);
    mesh.test.clock.advance(Duration::from_secs(3));
    verifier.verify(&other.mint(TokenKind::User, &mesh.claims()).unwrap()).await.unwrap();
    assert_eq!(verifier.verify(&token).await.unwrap_err(), TokenError::UnknownKey);
}

#[tokio::test]
async fn a_key_withdrawn_without_a_successor_goes_within_minutes() {
    let mesh = Mesh::new();
    let verifier = verifier(&mesh, "task");
    verifier.verify(&mesh.token()).await.unwrap();
    mesh.source.set(vec![mesh.task.published()]);
    mesh.test.clock.advance(Duration::from_secs(299));
    verifier.verify(&mesh.token()).await.unwrap();
    mesh.test.clock.advance(Duration::from_secs(1));
    assert_eq!(verifier.verify(&mesh.token()).await.unwrap_err(), TokenError::UnknownKey);
}

#[tokio::test]
async fn refuses_a_revoked_credential_although_the_token_was_verified_before() {
    let mesh = Mesh::new();
    let authenticator = mesh.authenticator("task");
    let headers = bearer(&mesh.token());
    authenticator.identify(&headers).await.unwrap();
    mesh.revocations.add(&credential_key("crd_1"), 1);
    assert_eq!(authenticator.identify(&headers).await.unwrap_err().reason(), "TOKEN_REVOKED");
    mesh.revocations.forget(&credential_key("crd_1"));
    authenticator.identify(&headers).await.unwrap();
}

#[tokio::test]
async fn takes_a_lost_membership_out_of_tokens_issued_before_only() {
    let mesh = Mesh::new();
    let authenticator = mesh.authenticator("task");
    let headers = bearer(&mesh.token());
    let role = |c: Caller| c.role_in(&mesh.organization);
    mesh.revocations.add(&membership_key(&mesh.user, &mesh.organization), 5);
    assert_eq!(role(authenticator.identify(&headers).await.unwrap()), Some(Role::Member));
    mesh.revocations.add(&membership_key(&mesh.user, &mesh.organization), 6);
    assert_eq!(role(authenticator.identify(&headers).await.unwrap()), None);
    let renewed = Claims { rev: 6, ..mesh.claims() };
    let headers = bearer(&mesh.auth.mint(TokenKind::User, &renewed).unwrap());
    assert_eq!(role(authenticator.identify(&headers).await.unwrap()), Some(Role::Member));
}

#[tokio::test]
async fn demands_a_new_token_after_a_lowered_role() {
    let mesh = Mesh::new();
    let authenticator = mesh.authenticator("task");
    mesh.revocations.add(&role_key(&mesh.user, &mesh.organization), 6);
    let refused = authenticator.identify(&bearer(&mesh.token())).await.unwrap_err();
    assert_eq!(refused.reason(), "TOKEN_REVOKED");
    let renewed = Claims { rev: 6, ..mesh.claims() };
    let headers = bearer(&mesh.auth.mint(TokenKind::User, &renewed).unwrap());
    authenticator.identify(&headers).await.unwrap();
}
