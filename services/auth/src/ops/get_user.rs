//! GetUser: the caller, and the memberships that its token covers.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::auth::v1::get_user_response::Credential;
use foundry_proto::auth::v1::{GetUserRequest, GetUserResponse};

use super::reach;
use crate::auth::Auth;
use crate::store::{credentials, memberships, sessions, users};

pub(crate) async fn get_user(auth: &Auth, caller: &Caller, _: GetUserRequest) -> Result<GetUserResponse> {
    let of = caller.require_user()?;
    let user = users::by_id(&auth.store, &of.user_id).await?;
    let user = user.ok_or_else(|| Error::not_found("user", of.user_id.as_str()))?;
    let memberships = memberships::of_user(&auth.store, &of.user_id, &reach(of)).await?;
    Ok(GetUserResponse {
        user: Some(user.message()),
        memberships: memberships.iter().map(memberships::Membership::message).collect(),
        credential: credential(auth, &of.credential_id).await?,
    })
}

/// What the call was made with; none if it is gone.
async fn credential(auth: &Auth, credential_id: &str) -> Result<Option<Credential>> {
    if let Ok(id) = credential_id.parse() {
        let token = credentials::token(&auth.store, &id).await?;
        return Ok(token.map(|it| Credential::AccessToken(it.message())));
    }
    let session = sessions::find(&auth.store, credential_id).await?;
    Ok(session.map(|it| Credential::Session(it.message(credential_id))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn shows_a_session_all_memberships_and_a_token_its_own() {
        let f = Fixture::new().await;
        f.member("alice", "zeta").await;
        let (alice, acme) = f.member("alice", "acme").await;
        let seen = get_user(&f.auth, &alice, GetUserRequest {}).await.unwrap();
        assert_eq!(seen.user.unwrap().login, "alice");
        let names: Vec<_> = seen.memberships.iter().map(|m| m.organization_name.as_str()).collect();
        assert_eq!(names, ["acme", "zeta"]);
        let Some(Credential::Session(session)) = seen.credential else { panic!("a session") };
        assert!(session.current && session.expire_time.is_some());
        let token = f.access_token(&alice, &acme, None).await;
        let seen =
            get_user(&f.auth, &f.caller(&token.secret).await.unwrap(), GetUserRequest {}).await.unwrap();
        assert_eq!(seen.memberships.len(), 1);
        assert_eq!(seen.credential, token.access_token.map(Credential::AccessToken));
    }

    #[tokio::test]
    async fn a_token_that_lost_its_organization_shows_none_instead_of_all() {
        let f = Fixture::new().await;
        let (alice, _) = f.member("alice", "acme").await;
        let mut orphan = alice.as_user().unwrap().clone();
        orphan.credential_id = "pat_1".into();
        orphan.organizations.clear();
        assert_eq!(
            get_user(&f.auth, &Caller::user(orphan), GetUserRequest {}).await.unwrap().memberships,
            []
        );
    }

    #[tokio::test]
    async fn is_for_users_only() {
        let f = Fixture::new().await;
        assert_eq!(
            get_user(&f.auth, &Caller::service("task"), GetUserRequest {}).await.unwrap_err().reason(),
            "PERMISSION_DENIED"
        );
    }
}
