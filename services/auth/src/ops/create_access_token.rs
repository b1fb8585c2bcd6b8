//! CreateAccessToken: a secret for a program, valid in one organization.

use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{AccessTokenId, Error, OrganizationId, Result};
use foundry_proto::auth::v1::{CreateAccessTokenRequest, CreateAccessTokenResponse};
use foundry_proto::common::v1::Role;
use foundry_service::{RequestKey, audit};
use foundry_store::WriteSet;

use super::{acting_member, is_session, session_required};
use crate::auth::Auth;
use crate::domain::name::parse_token_name;
use crate::domain::secret::{self, SecretKind};
use crate::store::credentials::Token;

const METHOD: &str = "CreateAccessToken";
const MAX_LIFETIME: Duration = Duration::from_secs(366 * 86_400);

pub(crate) async fn create_access_token(
    auth: &Auth,
    caller: &Caller,
    request: CreateAccessTokenRequest,
) -> Result<CreateAccessTokenResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let user = caller.require_user()?;
    if !is_session(user) {
        // A stolen personal access token must not be able to outlive its revocation by creating another one.
        return Err(session_required());
    }
    let name = parse_token_name(&request.name)?;
    let lifetime = request.lifetime.as_ref().map(parse_lifetime).transpose()?;
    let body = CreateAccessTokenRequest { request_id: String::new(), ..request.clone() };
    let key = RequestKey::new(organization.as_str(), caller, METHOD, &request.request_id, &body)?;
    if let Some((first, _)) = key.first_answer(&auth.store).await? {
        return Ok(first);
    }
    let secret = secret::generate(SecretKind::AccessToken, &auth.env);
    let decide = || async {
        let mut set = WriteSet::new();
        acting_member(auth, caller, &organization, &mut set).await?;
        let now = auth.env.clock.now();
        let token = Token {
            token_id: AccessTokenId::generate(&auth.env),
            user_id: user.user_id.clone(),
            organization_id: organization.clone(),
            name: name.clone(),
            created_at: now,
            expires_at: lifetime.map(|d| now.plus(d)),
            revoked_at: None,
            last_used_at: None,
        };
        token.insert(&mut set, secret::hash(&secret));
        let subject = token.token_id.as_str();
        set.audit(audit(&organization, caller, "", "access_token.create", subject, &request.request_id));
        let access_token = Some(token.message());
        // The remembered answer is stored, so it must not contain the secret.
        let remembered =
            CreateAccessTokenResponse { access_token: access_token.clone(), secret: String::new() };
        key.remember_create(&mut set, &remembered);
        Ok((set, CreateAccessTokenResponse { access_token, secret: secret.clone() }))
    };
    let committed = auth.store.retry_on_conflict(decide).await;
    Ok(key.settle(&auth.store, None, committed).await?.0)
}

fn parse_lifetime(lifetime: &prost_types::Duration) -> Result<Duration> {
    let longest = Duration::try_from(*lifetime).ok().filter(|d| !d.is_zero() && *d <= MAX_LIFETIME);
    longest.ok_or_else(|| Error::invalid_field("lifetime", "must be positive and at most 366 days"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::credentials::MAX_TOKENS;
    use crate::testing::Fixture;

    fn request(organization: &OrganizationId, name: &str, request_id: &str) -> CreateAccessTokenRequest {
        CreateAccessTokenRequest {
            request_id: request_id.into(),
            organization_id: organization.to_string(),
            name: name.into(),
            lifetime: None,
        }
    }

    #[tokio::test]
    async fn a_repeat_shows_the_token_without_its_secret_and_makes_no_second() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let first = create_access_token(&f.auth, &alice, request(&acme, "ci", "r1")).await.unwrap();
        assert!(first.secret.starts_with("fpat_"));
        let again = create_access_token(&f.auth, &alice, request(&acme, "ci", "r1")).await.unwrap();
        assert_eq!((again.access_token, again.secret.as_str()), (first.access_token, ""));
        assert!(f.caller(&first.secret).await.is_ok());
    }

    #[tokio::test]
    async fn no_secret_is_stored() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let made = create_access_token(&f.auth, &alice, request(&acme, "ci", "r1")).await.unwrap();
        f.auth.store.close().await;
        for entry in std::fs::read_dir(f.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                let found = bytes.windows(16).any(|w| w == &made.secret.as_bytes()[..16]);
                assert!(!found, "{}", path.display());
            }
        }
    }

    #[tokio::test]
    async fn is_limited_in_number_name_and_life() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        for bad in ["", " ", "a\nb", "\u{202e}x", &"x".repeat(65)] {
            let refused = create_access_token(&f.auth, &alice, request(&acme, bad, "")).await.unwrap_err();
            assert_eq!(refused.violations()[0].field, "name", "{bad:?}");
        }
        for (seconds, nanos) in [(0, 0), (-1, 0), (366 * 86_400, 1), (i64::MAX, 0)] {
            let lifetime = Some(prost_types::Duration { seconds, nanos });
            let bad = CreateAccessTokenRequest { lifetime, ..request(&acme, "ci", "") };
            let refused = create_access_token(&f.auth, &alice, bad).await.unwrap_err();
            assert_eq!(refused.violations()[0].field, "lifetime", "{seconds}");
        }
        for n in 0..MAX_TOKENS {
            create_access_token(&f.auth, &alice, request(&acme, &format!("t{n}"), "")).await.unwrap();
        }
        let refused = create_access_token(&f.auth, &alice, request(&acme, "one more", "")).await.unwrap_err();
        assert_eq!(refused.reason(), "LIMIT_REACHED");
    }

    #[tokio::test]
    async fn a_token_makes_no_token_and_strangers_make_none() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let token = f.access_token(&alice, &acme, None).await;
        let by_token = f.caller(&token.secret).await.unwrap();
        let refused = create_access_token(&f.auth, &by_token, request(&acme, "more", "")).await.unwrap_err();
        assert_eq!(refused.reason(), "SESSION_REQUIRED");
        let (bob, _) = f.member("bob", "").await;
        assert_eq!(
            create_access_token(&f.auth, &bob, request(&acme, "x", "")).await.unwrap_err().reason(),
            "NOT_FOUND"
        );
    }

    #[tokio::test]
    async fn expires_at_its_time() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let token = f.access_token(&alice, &acme, Some(Duration::from_secs(3_600))).await;
        f.clock.advance(Duration::from_secs(3_599));
        assert!(f.caller(&token.secret).await.is_ok());
        f.clock.advance(Duration::from_secs(1));
        assert_eq!(f.caller(&token.secret).await.unwrap_err().reason(), "TOKEN_EXPIRED");
    }
}
