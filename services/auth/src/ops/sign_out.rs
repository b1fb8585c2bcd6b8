//! SignOut: revokes the credential that the call was made with.

use foundry_authn::{Caller, credential_key};
use foundry_core::{Result, UserId};
use foundry_proto::auth::v1::SignOutResponse;
use foundry_service::audit;
use foundry_store::WriteSet;

use super::is_session;
use crate::auth::Auth;
use crate::store::{credentials, revocations, users};

pub(crate) async fn sign_out(auth: &Auth, caller: &Caller) -> Result<SignOutResponse> {
    let user = caller.require_user()?;
    let credential_id = user.credential_id.as_str();
    let decide = || async {
        let mut set = WriteSet::new();
        // Signing out twice is not an error.
        if credentials::is_revoked(&auth.store, credential_id).await? == Some(false) {
            let now = auth.env.clock.now();
            credentials::revoke(&mut set, credential_id, now);
            revocations::add(&mut set, &credential_key(credential_id), now);
            // A session belongs to no organization; its end is audited in the user's active one.
            let token_of = user.organizations.keys().next().filter(|_| !is_session(user)).cloned();
            let place = match token_of {
                Some(organization) => Some(organization),
                None => active(auth, &user.user_id).await?,
            };
            if let Some(organization) = place {
                let action = if is_session(user) { "session.close" } else { "access_token.revoke" };
                set.audit(audit(&organization, caller, "", action, credential_id, ""));
            }
        }
        Ok((set, ()))
    };
    auth.store.retry_on_conflict(decide).await?;
    Ok(SignOutResponse {})
}

async fn active(auth: &Auth, user: &UserId) -> Result<Option<foundry_core::OrganizationId>> {
    Ok(users::by_id(&auth.store, user).await?.and_then(|u| u.active))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn the_session_is_refused_from_then_on_and_the_others_go_on() {
        let f = Fixture::new().await;
        let (other, _) = f.member("alice", "acme").await;
        let session = f.sign_in("alice", "acme").await.unwrap().session_token;
        let alice = f.caller(&session).await.unwrap();
        sign_out(&f.auth, &alice).await.unwrap();
        assert_eq!(f.caller(&session).await.unwrap_err().reason(), "TOKEN_REVOKED");
        f.follow().await;
        assert_eq!(f.auth.revocations.apply(alice.clone()).unwrap_err().reason(), "TOKEN_REVOKED");
        assert!(f.auth.revocations.apply(other.clone()).is_ok());
        sign_out(&f.auth, &alice).await.unwrap();
        let acme = other.memberships()[0].organization_id.clone();
        assert_eq!(f.audit(&acme).await.iter().filter(|r| r.action == "session.close").count(), 1);
    }

    #[tokio::test]
    async fn a_token_ends_itself() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let made = f.access_token(&alice, &acme, None).await;
        sign_out(&f.auth, &f.caller(&made.secret).await.unwrap()).await.unwrap();
        assert_eq!(f.caller(&made.secret).await.unwrap_err().reason(), "TOKEN_REVOKED");
        assert!(f.audit(&acme).await.iter().any(|r| r.action == "access_token.revoke"));
        let refused = sign_out(&f.auth, &Caller::service("gateway")).await.unwrap_err();
        assert_eq!(refused.reason(), "PERMISSION_DENIED");
    }
}
