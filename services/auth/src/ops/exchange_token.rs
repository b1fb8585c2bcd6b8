//! ExchangeToken: exchanges an opaque token for a short-lived access token. Reads once, writes nothing.

use std::collections::BTreeMap;

use foundry_authn::{AUTH_ISSUER, Claims, TOKEN_LIFETIME, TokenError, USER_AUDIENCE, role_name};
use foundry_core::{Code, Error, Result, Timestamp};
use foundry_proto::auth::v1::{ExchangeTokenRequest, ExchangeTokenResponse};

use crate::auth::Auth;
use crate::domain::secret;
use crate::store::credentials::{self, Exchange};

pub(crate) async fn exchange_token(
    auth: &Auth,
    request: ExchangeTokenRequest,
) -> Result<ExchangeTokenResponse> {
    let (_, hash) = secret::parse(&request.token)?;
    let found = credentials::by_secret(&auth.store, hash).await?.ok_or_else(unknown)?;
    let now = auth.env.clock.now();
    let (iat, exp) = life(&found, now)?;
    let orgs: BTreeMap<_, _> =
        found.roles.iter().map(|(o, r)| (o.to_string(), role_name(*r).to_owned())).collect();
    let claims = Claims {
        iss: AUTH_ISSUER.to_owned(),
        sub: found.user_id.to_string(),
        aud: USER_AUDIENCE.to_owned(),
        iat,
        exp,
        jti: auth.env.random.uuid_at(now).simple().to_string(),
        sid: found.credential_id.clone(),
        rev: found.revocations_rev,
        orgs,
    };
    auth.uses.note(&found.credential_id, found.last_used_at, now);
    Ok(ExchangeTokenResponse {
        access_token: auth.signing.mint(&claims)?,
        expire_time: Some(Timestamp::from_micros(exp * 1_000_000).to_proto()),
        credential_id: found.credential_id,
    })
}

/// Issue and expiry of the access token in Unix seconds; it never outlives its credential.
fn life(found: &Exchange, now: Timestamp) -> Result<(i64, i64), TokenError> {
    if found.expires_at.is_some_and(|e| e <= now) {
        return Err(TokenError::Expired);
    }
    if found.revoked_at.is_some() {
        return Err(TokenError::Revoked);
    }
    let seconds = |t: Timestamp| t.as_micros().div_euclid(1_000_000);
    let longest = now.plus(TOKEN_LIFETIME);
    let (iat, exp) = (seconds(now), seconds(found.expires_at.map_or(longest, |e| e.min(longest))));
    if exp > iat { Ok((iat, exp)) } else { Err(TokenError::Expired) }
}

fn unknown() -> Error {
    Error::new(Code::Unauthenticated, "TOKEN_UNKNOWN", "unknown token").next_action("sign in again")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use foundry_proto::common::v1::Role;

    use super::*;
    use crate::testing::Fixture;

    async fn exchange(f: &Fixture, token: &str) -> Result<ExchangeTokenResponse> {
        exchange_token(&f.auth, ExchangeTokenRequest { token: token.to_owned() }).await
    }

    #[tokio::test]
    async fn a_sessions_token_opens_all_organizations_of_its_user() {
        let f = Fixture::new().await;
        let (_, acme) = f.member("alice", "acme").await;
        let (alice, other) = f.member("alice", "other").await;
        assert_eq!(alice.role_in(&acme), Some(Role::Owner));
        assert_eq!(alice.role_in(&other), Some(Role::Owner));
    }

    #[tokio::test]
    async fn a_personal_access_token_opens_its_one_organization() {
        let f = Fixture::new().await;
        f.member("alice", "other").await;
        let (alice, acme) = f.member("alice", "acme").await;
        let made = f.access_token(&alice, &acme, None).await;
        let caller = f.caller(&made.secret).await.unwrap();
        let opened: Vec<_> = caller.memberships().into_iter().map(|m| m.organization_id).collect();
        assert_eq!(opened, [acme]);
        assert_eq!(caller.as_user().unwrap().credential_id, made.access_token.unwrap().access_token_id);
    }

    #[tokio::test]
    async fn refuses_what_it_does_not_know_and_what_is_no_token() {
        let f = Fixture::new().await;
        let unknown = secret::generate(secret::SecretKind::Session, &f.auth.env);
        assert_eq!(exchange(&f, &unknown).await.unwrap_err().reason(), "TOKEN_UNKNOWN");
        for bad in ["", "fds_x", "Bearer x", "' OR 1=1"] {
            assert_eq!(exchange(&f, bad).await.unwrap_err().reason(), "TOKEN_MALFORMED");
        }
    }

    #[tokio::test]
    async fn ends_with_the_session_and_no_access_token_outlives_it() {
        let f = Fixture::new().await;
        let session = f.sign_in("alice", "").await.unwrap().session_token;
        f.clock.advance(f.auth.config.session_lifetime - Duration::from_secs(60));
        let last = exchange(&f, &session).await.unwrap();
        let left = Timestamp::from_proto(&last.expire_time.unwrap()).since(f.auth.env.clock.now());
        assert_eq!(left, Duration::from_secs(60));
        f.clock.advance(Duration::from_secs(60));
        assert_eq!(exchange(&f, &session).await.unwrap_err().reason(), "TOKEN_EXPIRED");
    }

    #[tokio::test]
    async fn notes_its_use_without_writing() {
        let f = Fixture::new().await;
        let session = f.sign_in("alice", "").await.unwrap().session_token;
        let made = exchange(&f, &session).await.unwrap();
        let notes = f.auth.uses.take();
        assert_eq!(notes.keys().collect::<Vec<_>>(), [&made.credential_id]);
    }
}
