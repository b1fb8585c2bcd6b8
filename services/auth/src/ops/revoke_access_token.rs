//! RevokeAccessToken: revokes one of the caller's own tokens; all services refuse it within a second.

use foundry_authn::{Caller, credential_key};
use foundry_core::{AccessTokenId, Error, Result};
use foundry_proto::auth::v1::{RevokeAccessTokenRequest, RevokeAccessTokenResponse};
use foundry_service::{RequestKey, audit};
use foundry_store::WriteSet;

use super::reach;
use crate::auth::Auth;
use crate::store::{credentials, revocations};

const METHOD: &str = "RevokeAccessToken";

pub(crate) async fn revoke_access_token(
    auth: &Auth,
    caller: &Caller,
    request: RevokeAccessTokenRequest,
) -> Result<RevokeAccessTokenResponse> {
    let user = caller.require_user()?;
    let id: AccessTokenId = request.access_token_id.parse()?;
    let body = RevokeAccessTokenRequest { request_id: String::new(), ..request.clone() };
    let key = RequestKey::new("", caller, METHOD, &request.request_id, &body)?;
    if let Some((first, _)) = key.first_answer(&auth.store).await? {
        return Ok(first);
    }
    let decide = || async {
        let found = credentials::token(&auth.store, &id).await?;
        let own = found.filter(|t| t.user_id == user.user_id);
        // A personal access token covers only its own organization.
        let reached = own.filter(|t| reach(user).includes(&t.organization_id));
        let mut token = reached.ok_or_else(|| Error::not_found("access token", id.as_str()))?;
        let mut set = WriteSet::new();
        if token.revoked_at.is_none() {
            let now = auth.env.clock.now();
            token.revoked_at = Some(now);
            credentials::revoke(&mut set, id.as_str(), now);
            revocations::add(&mut set, &credential_key(id.as_str()), now);
            let (place, action) = (&token.organization_id, "access_token.revoke");
            set.audit(audit(place, caller, "", action, id.as_str(), &request.request_id));
        }
        let response = RevokeAccessTokenResponse { access_token: Some(token.message()) };
        key.remember(&mut set, &response, &auth.env);
        Ok((set, response))
    };
    let committed = auth.store.retry_on_conflict(decide).await;
    Ok(key.settle(&auth.store, None, committed).await?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    async fn revoke(f: &Fixture, by: &Caller, id: &str) -> Result<RevokeAccessTokenResponse> {
        let request = RevokeAccessTokenRequest { request_id: String::new(), access_token_id: id.into() };
        revoke_access_token(&f.auth, by, request).await
    }

    #[tokio::test]
    async fn the_token_and_every_access_token_made_from_it_are_refused() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let made = f.access_token(&alice, &acme, None).await;
        let id = made.access_token.unwrap().access_token_id;
        let program = f.caller(&made.secret).await.unwrap();
        let revoked = revoke(&f, &alice, &id).await.unwrap().access_token.unwrap();
        assert!(revoked.revoke_time.is_some());
        assert_eq!(f.caller(&made.secret).await.unwrap_err().reason(), "TOKEN_REVOKED");
        f.follow().await;
        assert_eq!(f.auth.revocations.apply(program).unwrap_err().reason(), "TOKEN_REVOKED");
        assert_eq!(revoke(&f, &alice, &id).await.unwrap().access_token.unwrap(), revoked);
        assert_eq!(f.audit(&acme).await.iter().filter(|r| r.action == "access_token.revoke").count(), 1);
    }

    #[tokio::test]
    async fn a_foreign_token_looks_absent_and_stays_good() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let made = f.access_token(&alice, &acme, None).await;
        let (bob, _) = f.member("bob", "").await;
        let id = made.access_token.unwrap().access_token_id;
        assert_eq!(revoke(&f, &bob, &id).await.unwrap_err().reason(), "NOT_FOUND");
        let absent = AccessTokenId::generate(&f.auth.env);
        assert_eq!(revoke(&f, &bob, absent.as_str()).await.unwrap_err().reason(), "NOT_FOUND");
        assert!(revoke(&f, &bob, "pat_x' --").await.is_err());
        assert!(f.caller(&made.secret).await.is_ok());
    }

    #[tokio::test]
    async fn a_token_can_revoke_itself() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let made = f.access_token(&alice, &acme, None).await;
        let program = f.caller(&made.secret).await.unwrap();
        revoke(&f, &program, &made.access_token.unwrap().access_token_id).await.unwrap();
        assert!(f.caller(&made.secret).await.is_err());
    }
}
