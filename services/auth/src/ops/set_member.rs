//! SetMember: adds a known user to an organization, or changes its role there.

use foundry_authn::{Caller, role_key, role_name};
use foundry_core::{Code, Error, OrganizationId, Result};
use foundry_proto::auth::v1::{SetMemberRequest, SetMemberResponse};
use foundry_proto::common::v1::Role;
use foundry_service::{RequestKey, audit, with_detail};
use foundry_store::WriteSet;

use super::acting_member;
use crate::auth::Auth;
use crate::domain::membership::{decide, parse_role};
use crate::domain::name::parse_name;
use crate::store::memberships::{self, Membership};
use crate::store::{revocations, shell, users};

const METHOD: &str = "SetMember";

pub(crate) async fn set_member(
    auth: &Auth,
    caller: &Caller,
    request: SetMemberRequest,
) -> Result<SetMemberResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Admin)?;
    let (login, role) = (parse_name("login", &request.login)?, parse_role(request.role)?);
    let body = SetMemberRequest { request_id: String::new(), ..request.clone() };
    let key = RequestKey::new(organization.as_str(), caller, METHOD, &request.request_id, &body)?;
    if let Some((first, _)) = key.first_answer(&auth.store).await? {
        return Ok(first);
    }
    let decide = || async {
        let (mut set, response) =
            set_role(auth, caller, &organization, &login, role, &request.request_id).await?;
        key.remember(&mut set, &response, &auth.env);
        Ok((set, response))
    };
    let committed = auth.store.retry_on_conflict(decide).await;
    Ok(key.settle(&auth.store, None, committed).await?.0)
}

async fn set_role(
    auth: &Auth,
    caller: &Caller,
    organization: &OrganizationId,
    login: &str,
    to: Role,
    request_id: &str,
) -> Result<(WriteSet, SetMemberResponse)> {
    let mut set = WriteSet::new();
    let actor = acting_member(auth, caller, organization, &mut set).await?;
    let target = users::by_login(&auth.store, login).await?.ok_or_else(|| unknown_user(login))?;
    let member = memberships::get(&auth.store, organization, &target.user_id).await?;
    let from = member.as_ref().map(|m| m.role);
    let owners = memberships::two_owners(&auth.store, organization).await?;
    let change = decide(actor.role, &target.user_id, from, Some(to), &owners)?;
    let membership = Membership {
        organization_id: organization.clone(),
        organization_name: actor.organization_name,
        user_id: target.user_id.clone(),
        login: target.login.clone(),
        role: to,
    };
    let response = SetMemberResponse { membership: Some(membership.message()) };
    if from == Some(to) {
        return Ok((set, response));
    }
    if let Some(owner) = change.remaining_owner {
        memberships::still(&mut set, organization, &owner, Role::Owner);
    }
    let now = auth.env.clock.now();
    match from {
        Some(from) => memberships::update(&mut set, organization, &target.user_id, from, to),
        None => {
            memberships::insert(&mut set, organization, &target.user_id, to, now);
            shell::joined(&mut set, &target, organization);
        }
    }
    // Older tokens carry the previous role.
    revocations::add(&mut set, &role_key(&target.user_id, organization), now);
    let record = audit(organization, caller, "", "member.set", target.user_id.as_str(), request_id);
    let was = from.map_or("none", role_name);
    set.audit(with_detail(record, serde_json::json!({"from": was, "to": role_name(to)})));
    Ok((set, response))
}

fn unknown_user(login: &str) -> Error {
    Error::new(Code::NotFound, "NOT_FOUND", format!("no user with the login {login} has signed in yet"))
        .next_action("ask them to sign in once, then add them")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    async fn set(
        f: &Fixture,
        by: &Caller,
        organization: &OrganizationId,
        login: &str,
        role: Role,
    ) -> Result<Role> {
        let request = SetMemberRequest {
            request_id: String::new(),
            organization_id: organization.to_string(),
            login: login.into(),
            role: role.into(),
        };
        Ok(set_member(&f.auth, by, request).await?.membership.unwrap().role())
    }

    #[tokio::test]
    async fn only_admins_and_owners_set_members_and_none_above_themselves() {
        let f = Fixture::new().await;
        let (owner, acme) = f.member("owner", "acme").await;
        f.sign_in("guest", "").await.unwrap();
        let roles = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];
        for role in roles {
            let login = foundry_authn::role_name(role).to_owned() + "-x";
            let by = f.add(&owner, &acme, &login, role).await;
            for grant in roles {
                let answer = set(&f, &by, &acme, "guest", grant).await;
                let legal = role >= Role::Admin && grant <= role;
                assert_eq!(answer.is_ok(), legal, "{role:?} grants {grant:?}: {answer:?}");
                set(&f, &owner, &acme, "guest", Role::Viewer).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn the_last_owner_stays_also_when_two_step_down_at_once() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let alone = set(&f, &alice, &acme, "alice", Role::Admin).await.unwrap_err();
        assert_eq!(alone.reason(), "LAST_OWNER");
        let bob = f.add(&alice, &acme, "bob", Role::Owner).await;
        let both = tokio::join!(
            set(&f, &alice, &acme, "alice", Role::Viewer),
            set(&f, &bob, &acme, "bob", Role::Viewer)
        );
        assert_eq!([both.0.is_ok(), both.1.is_ok()].iter().filter(|ok| **ok).count(), 1);
    }

    #[tokio::test]
    async fn a_changed_role_makes_older_tokens_stale_and_the_next_one_knows_it() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let bob = f.add(&alice, &acme, "bob", Role::Admin).await;
        set(&f, &alice, &acme, "bob", Role::Viewer).await.unwrap();
        f.follow().await;
        assert_eq!(f.auth.revocations.apply(bob.clone()).unwrap_err().reason(), "TOKEN_REVOKED");
        // Even if the stale admin token is accepted, it grants nothing now.
        assert_eq!(set(&f, &bob, &acme, "alice", Role::Viewer).await.unwrap_err().reason(), "ROLE_ABOVE_OWN");
        let again = f.again(&bob).await;
        assert_eq!(f.auth.revocations.apply(again).unwrap().role_in(&acme), Some(Role::Viewer));
    }

    #[tokio::test]
    async fn foreign_organizations_unknown_users_and_hostile_logins_are_refused() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let (mallory, _) = f.member("mallory", "").await;
        let foreign = set(&f, &mallory, &acme, "mallory", Role::Owner).await.unwrap_err();
        assert_eq!(foreign.reason(), "NOT_FOUND");
        let unknown = set(&f, &alice, &acme, "nobody", Role::Viewer).await.unwrap_err();
        assert_eq!(unknown.reason(), "NOT_FOUND");
        for bad in ["", "%", "a' --", "../a"] {
            let refused = set(&f, &alice, &acme, bad, Role::Viewer).await.unwrap_err();
            assert_eq!(refused.violations()[0].field, "login", "{bad:?}");
        }
        let none = set(&f, &alice, &acme, "mallory", Role::Unspecified).await.unwrap_err();
        assert_eq!(none.violations()[0].field, "role");
    }

    #[tokio::test]
    async fn a_repeat_gets_the_first_answer_although_the_role_changed_since() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        f.sign_in("bob", "").await.unwrap();
        let request = |role: Role, request_id: &str| SetMemberRequest {
            request_id: request_id.into(),
            organization_id: acme.to_string(),
            login: "bob".into(),
            role: role.into(),
        };
        let first = set_member(&f.auth, &alice, request(Role::Member, "r1")).await.unwrap();
        set_member(&f.auth, &alice, request(Role::Viewer, "r2")).await.unwrap();
        assert_eq!(set_member(&f.auth, &alice, request(Role::Member, "r1")).await.unwrap(), first);
        let now = memberships::of_organization(&f.auth.store, &acme, "alice", 5).await.unwrap();
        assert_eq!(now[0].role, Role::Viewer);
    }

    #[tokio::test]
    async fn each_change_leaves_an_audit_record_and_none_leaves_none() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        f.add(&alice, &acme, "bob", Role::Member).await;
        set(&f, &alice, &acme, "bob", Role::Member).await.unwrap();
        let records = f.audit(&acme).await;
        let sets: Vec<_> = records.iter().filter(|r| r.action == "member.set").collect();
        assert_eq!(sets.len(), 1);
        assert_eq!(sets[0].detail_json, r#"{"from":"none","to":"member"}"#);
        assert_eq!(sets[0].actor, alice.actor());
    }
}
