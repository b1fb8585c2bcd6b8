//! CreateOrganization: a tenant owned by the caller.

use foundry_authn::{Caller, role_key};
use foundry_core::{Error, OrganizationId, Result};
use foundry_proto::auth::v1::{CreateOrganizationRequest, CreateOrganizationResponse};
use foundry_proto::common::v1::Role;
use foundry_service::{RequestKey, audit};
use foundry_store::WriteSet;

use super::{is_session, session_required};
use crate::auth::Auth;
use crate::domain::name::parse_name;
use crate::store::organizations::{self, Organization};
use crate::store::{memberships, revocations, shell, users};

const METHOD: &str = "CreateOrganization";

pub(crate) async fn create_organization(
    auth: &Auth,
    caller: &Caller,
    request: CreateOrganizationRequest,
) -> Result<CreateOrganizationResponse> {
    let user = caller.require_user()?;
    if !is_session(user) {
        return Err(session_required());
    }
    let name = parse_name("name", &request.name)?;
    let body = CreateOrganizationRequest { request_id: String::new(), ..request.clone() };
    let key = RequestKey::new("", caller, METHOD, &request.request_id, &body)?;
    if let Some((first, _)) = key.first_answer(&auth.store).await? {
        return Ok(first);
    }
    let decide = || async {
        if organizations::by_name(&auth.store, &name).await?.is_some() {
            return Err(Error::already_exists("organization", &name));
        }
        let now = auth.env.clock.now();
        let organization = Organization {
            organization_id: OrganizationId::generate(&auth.env),
            name: name.clone(),
            created_at: now,
        };
        let id = &organization.organization_id;
        let mut set = WriteSet::new();
        organization.insert(&mut set);
        memberships::insert(&mut set, id, &user.user_id, Role::Owner, now);
        let creator = users::by_id(&auth.store, &user.user_id).await?;
        let creator = creator.ok_or_else(|| Error::not_found("user", user.user_id.as_str()))?;
        shell::joined(&mut set, &creator, id);
        // The caller's tokens lack this organization and must be renewed.
        revocations::add(&mut set, &role_key(&user.user_id, id), now);
        set.audit(audit(id, caller, "", "organization.create", id.as_str(), &request.request_id));
        let response = CreateOrganizationResponse { organization: Some(organization.message()) };
        key.remember_create(&mut set, &response);
        Ok((set, response))
    };
    let committed = auth.store.retry_on_conflict(decide).await;
    Ok(key.settle(&auth.store, None, committed).await?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    fn request(name: &str, request_id: &str) -> CreateOrganizationRequest {
        CreateOrganizationRequest { request_id: request_id.into(), name: name.into() }
    }

    #[tokio::test]
    async fn its_creator_owns_it_with_the_next_token() {
        let f = Fixture::new().await;
        let session = f.sign_in("alice", "").await.unwrap().session_token;
        let before = f.caller(&session).await.unwrap();
        let made =
            create_organization(&f.auth, &before, request("acme", "")).await.unwrap().organization.unwrap();
        let id = made.organization_id.parse().unwrap();
        assert_eq!(before.role_in(&id), None);
        assert_eq!(f.caller(&session).await.unwrap().role_in(&id), Some(Role::Owner));
    }

    #[tokio::test]
    async fn a_repeat_gets_the_first_answer_and_another_body_is_refused() {
        let f = Fixture::new().await;
        let (alice, _) = f.member("alice", "").await;
        let first = create_organization(&f.auth, &alice, request("acme", "r1")).await.unwrap();
        assert_eq!(create_organization(&f.auth, &alice, request("acme", "r1")).await.unwrap(), first);
        let other = create_organization(&f.auth, &alice, request("other", "r1")).await.unwrap_err();
        assert_eq!(other.reason(), "REQUEST_ID_REUSED");
        let again = create_organization(&f.auth, &alice, request("acme", "r2")).await.unwrap_err();
        assert_eq!(again.reason(), "ALREADY_EXISTS");
        let (bob, _) = f.member("bob", "").await;
        assert!(
            create_organization(&f.auth, &bob, request("other", "r1")).await.is_ok(),
            "ids are each caller's own"
        );
    }

    #[tokio::test]
    async fn of_two_repeats_at_the_same_time_one_is_made() {
        let f = Fixture::new().await;
        let (alice, _) = f.member("alice", "").await;
        let both = tokio::join!(
            create_organization(&f.auth, &alice, request("acme", "r1")),
            create_organization(&f.auth, &alice, request("acme", "r1"))
        );
        assert_eq!(both.0.unwrap(), both.1.unwrap());
    }

    #[tokio::test]
    async fn refuses_hostile_names_and_personal_access_tokens() {
        let f = Fixture::new().await;
        let (alice, home) = f.member("alice", "").await;
        for bad in ["", "../acme", "-acme", "ACME", "a\nb", &"x".repeat(40)] {
            let refused = create_organization(&f.auth, &alice, request(bad, "")).await.unwrap_err();
            assert_eq!(refused.violations()[0].field, "name", "{bad:?}");
        }
        let long = create_organization(&f.auth, &alice, request("acme", &"x".repeat(129))).await.unwrap_err();
        assert_eq!(long.violations()[0].field, "request_id");
        let token = f.access_token(&alice, &home, None).await;
        let refused =
            create_organization(&f.auth, &f.caller(&token.secret).await.unwrap(), request("acme", ""))
                .await
                .unwrap_err();
        assert_eq!(refused.reason(), "SESSION_REQUIRED");
    }

    #[tokio::test]
    async fn a_user_has_only_so_many() {
        let f = Fixture::new().await;
        let (alice, _) = f.member("alice", "").await;
        for n in 1..memberships::MAX_PER_USER {
            create_organization(&f.auth, &alice, request(&format!("org-{n}"), "")).await.unwrap();
        }
        let refused = create_organization(&f.auth, &alice, request("one-more", "")).await.unwrap_err();
        assert_eq!(refused.reason(), "LIMIT_REACHED");
    }
}
