//! RemoveMember: removes a user from an organization, and revokes its personal access tokens for it.

use foundry_authn::{Caller, membership_key};
use foundry_core::{Error, OrganizationId, Result, UserId};
use foundry_proto::auth::v1::{RemoveMemberRequest, RemoveMemberResponse};
use foundry_proto::common::v1::Role;
use foundry_service::{RequestKey, audit};
use foundry_store::WriteSet;

use super::acting_member;
use crate::auth::Auth;
use crate::domain::membership::decide;
use crate::store::{Reach, credentials, memberships, revocations, shell, users};

const METHOD: &str = "RemoveMember";

pub(crate) async fn remove_member(
    auth: &Auth,
    caller: &Caller,
    request: RemoveMemberRequest,
) -> Result<RemoveMemberResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Admin)?;
    let target: UserId = request.user_id.parse()?;
    let body = RemoveMemberRequest { request_id: String::new(), ..request.clone() };
    let key = RequestKey::new(organization.as_str(), caller, METHOD, &request.request_id, &body)?;
    if let Some((first, _)) = key.first_answer(&auth.store).await? {
        return Ok(first);
    }
    let decide = || async {
        let mut set = remove(auth, caller, &organization, &target, &request.request_id).await?;
        let response = RemoveMemberResponse {};
        key.remember(&mut set, &response, &auth.env);
        Ok((set, response))
    };
    let committed = auth.store.retry_on_conflict(decide).await;
    Ok(key.settle(&auth.store, None, committed).await?.0)
}

async fn remove(
    auth: &Auth,
    caller: &Caller,
    organization: &OrganizationId,
    target: &UserId,
    request_id: &str,
) -> Result<WriteSet> {
    let mut set = WriteSet::new();
    let actor = acting_member(auth, caller, organization, &mut set).await?;
    let member = memberships::get(&auth.store, organization, target).await?;
    let member = member.ok_or_else(|| Error::not_found("member", target.as_str()))?;
    let owners = memberships::two_owners(&auth.store, organization).await?;
    let change = decide(actor.role, target, Some(member.role), None, &owners)?;
    if let Some(owner) = change.remaining_owner {
        memberships::still(&mut set, organization, &owner, Role::Owner);
    }
    let now = auth.env.clock.now();
    memberships::delete(&mut set, organization, target, member.role);
    let user = users::by_id(&auth.store, target).await?;
    let user = user.ok_or_else(|| Error::not_found("member", target.as_str()))?;
    let all = memberships::of_user(&auth.store, target, &Reach::All).await?;
    shell::left(&mut set, &user, organization, &all);
    // Otherwise a later membership would make the old tokens valid again.
    credentials::revoke_tokens_in(&mut set, target, organization, now);
    revocations::add(&mut set, &membership_key(target, organization), now);
    set.audit(audit(organization, caller, "", "member.remove", target.as_str(), request_id));
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    async fn remove(f: &Fixture, by: &Caller, organization: &OrganizationId, user: &Caller) -> &'static str {
        let request = RemoveMemberRequest {
            request_id: String::new(),
            organization_id: organization.to_string(),
            user_id: user.as_user().unwrap().user_id.to_string(),
        };
        remove_member(&f.auth, by, request).await.map_or_else(|e| e.reason(), |_| "OK")
    }

    #[tokio::test]
    async fn the_removed_ones_token_opens_the_organization_no_more() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let bob = f.add(&alice, &acme, "bob", Role::Member).await;
        assert_eq!(remove(&f, &alice, &acme, &bob).await, "OK");
        f.follow().await;
        assert_eq!(f.auth.revocations.apply(bob.clone()).unwrap().role_in(&acme), None);
        let renewed = f.auth.revocations.apply(f.again(&bob).await).unwrap();
        assert_eq!(renewed.role_in(&acme), None);
        assert_eq!(remove(&f, &alice, &acme, &bob).await, "NOT_FOUND");
    }

    #[tokio::test]
    async fn one_that_comes_back_gets_in_by_new_tokens_only() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let bob = f.add(&alice, &acme, "bob", Role::Member).await;
        let token = f.access_token(&bob, &acme, None).await;
        remove(&f, &alice, &acme, &bob).await;
        let back = f.add(&alice, &acme, "bob", Role::Viewer).await;
        f.follow().await;
        assert!(f.auth.revocations.apply(bob).is_err());
        assert_eq!(f.auth.revocations.apply(back).unwrap().role_in(&acme), Some(Role::Viewer));
        assert_eq!(f.caller(&token.secret).await.unwrap_err().reason(), "TOKEN_REVOKED");
    }

    #[tokio::test]
    async fn nobody_removes_one_above_itself_nor_the_last_owner() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let admin = f.add(&alice, &acme, "admin", Role::Admin).await;
        let member = f.add(&alice, &acme, "member", Role::Member).await;
        assert_eq!(remove(&f, &admin, &acme, &alice).await, "ROLE_ABOVE_OWN");
        assert_eq!(remove(&f, &member, &acme, &admin).await, "PERMISSION_DENIED");
        assert_eq!(remove(&f, &alice, &acme, &alice).await, "LAST_OWNER");
        assert_eq!(remove(&f, &admin, &acme, &member).await, "OK");
        let (mallory, _) = f.member("mallory", "").await;
        assert_eq!(remove(&f, &mallory, &acme, &admin).await, "NOT_FOUND");
    }

    #[tokio::test]
    async fn a_repeat_gets_the_first_answer_although_nobody_is_left_to_remove() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let bob = f.add(&alice, &acme, "bob", Role::Member).await;
        let request = RemoveMemberRequest {
            request_id: "r1".into(),
            organization_id: acme.to_string(),
            user_id: bob.as_user().unwrap().user_id.to_string(),
        };
        let again = || remove_member(&f.auth, &alice, request.clone());
        let (first, second, third) = tokio::join!(again(), again(), again());
        assert!(first.is_ok() && second.is_ok() && third.is_ok());
        assert!(again().await.is_ok());
        assert_eq!(f.audit(&acme).await.iter().filter(|r| r.action == "member.remove").count(), 1);
    }
}
