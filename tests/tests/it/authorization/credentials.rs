//! Tokens that must not be accepted, signed with the mesh's own key where a signature is needed.

use ed25519_dalek::SigningKey;
use foundry_authn::{AUTH_ISSUER, Claims, Signer, TokenKind, USER_AUDIENCE};
use foundry_core::Env;
use foundry_proto::auth::v1::{CreateAccessTokenRequest, RevokeAccessTokenRequest};
use foundry_tests::{Caller, Mesh};

use super::world::World;

/// Signs access tokens as the auth service of a mesh does.
pub struct Mint(Signer);

impl Mint {
    /// With the key in the data directory of the mesh.
    pub fn of(mesh: &Mesh) -> Self {
        let text = std::fs::read(mesh.data().join("auth/signing-keys.json")).unwrap();
        let keys: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let seed = hex::decode(keys["keys"][0]["seed"].as_str().unwrap()).unwrap();
        let key = SigningKey::from_bytes(&<[u8; 32]>::try_from(seed).unwrap());
        Self(Signer::new(AUTH_ISSUER, &key).unwrap())
    }

    /// A good access token of a user, changed.
    pub fn token(&self, world: &World, change: impl FnOnce(&mut Claims)) -> String {
        let now = Env::system().clock.now().as_micros() / 1_000_000;
        let mut claims = Claims {
            iss: AUTH_ISSUER.to_owned(),
            sub: world.user_id.clone(),
            aud: USER_AUDIENCE.to_owned(),
            iat: now,
            exp: now + 300,
            jti: "matrix".to_owned(),
            sid: "crd_of_the_matrix".to_owned(),
            rev: i64::MAX,
            orgs: [(world.caller.organization_id.clone(), "owner".to_owned())].into(),
        };
        change(&mut claims);
        self.0.mint(TokenKind::User, &claims).unwrap()
    }
}

/// A credential, what it is, and the reason for which it is refused.
pub struct Bad {
    pub what: &'static str,
    pub token: Option<String>,
    pub reason: &'static str,
}

/// A personal access token that was revoked: its id and its secret.
pub async fn revoked(caller: &Caller) -> (String, String) {
    let create = CreateAccessTokenRequest {
        organization_id: caller.organization_id.clone(),
        name: "revoked".to_owned(),
        ..Default::default()
    };
    let made = caller.auth().create_access_token(create).await.unwrap().into_inner();
    let access_token_id = made.access_token.unwrap().access_token_id;
    let revoke =
        RevokeAccessTokenRequest { request_id: String::new(), access_token_id: access_token_id.clone() };
    caller.auth().revoke_access_token(revoke).await.unwrap();
    (access_token_id, made.secret)
}

/// Everything that identifies nobody.
pub fn bad(mint: &Mint, world: &World, revoked: &str) -> Vec<Bad> {
    let good = mint.token(world, |_| {});
    let (head, signature) = good.rsplit_once('.').unwrap();
    let tampered = format!("{head}.{}", signature.chars().rev().collect::<String>());
    let expired = mint.token(world, |claims| {
        claims.iat -= 1_000;
        claims.exp -= 1_000;
    });
    let elsewhere = mint.token(world, |claims| claims.aud = "elsewhere".to_owned());
    let revoked = mint.token(world, |claims| claims.sid = revoked.to_owned());
    let of = |what, token: &str, reason| Bad { what, token: Some(token.to_owned()), reason };
    vec![
        Bad { what: "no token", token: None, reason: "TOKEN_MISSING" },
        of("garbage", "garbage", "TOKEN_MALFORMED"),
        of("another signature", &tampered, "TOKEN_MALFORMED"),
        of("an expired token", &expired, "TOKEN_EXPIRED"),
        of("another audience", &elsewhere, "TOKEN_AUDIENCE"),
        of("a revoked token", &revoked, "TOKEN_REVOKED"),
    ]
}
