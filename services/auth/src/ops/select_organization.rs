//! SelectOrganization: makes one of the caller's organizations the active one in all its clients.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, Result};
use foundry_proto::auth::v1::{SelectOrganizationRequest, SelectOrganizationResponse, ShellUser};
use foundry_proto::common::v1::Role;
use foundry_service::{RequestKey, audit};
use foundry_store::{Scope, WriteSet};

use super::{acting_member, is_session, session_required};
use crate::auth::Auth;
use crate::store::users;

const METHOD: &str = "SelectOrganization";

pub(crate) async fn select_organization(
    auth: &Auth,
    caller: &Caller,
    request: SelectOrganizationRequest,
) -> Result<SelectOrganizationResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let user = caller.require_user()?;
    if !is_session(user) {
        // It would change what all clients of the user show, beyond the token's organization.
        return Err(session_required());
    }
    let scope = Scope::user(&user.user_id);
    let body = SelectOrganizationRequest { request_id: String::new(), ..request.clone() };
    let key = RequestKey::new(organization.as_str(), caller, METHOD, &request.request_id, &body)?;
    if let Some((answer, rev)) = key.first_answer::<SelectOrganizationResponse>(&auth.store).await? {
        return Ok(SelectOrganizationResponse { rev, ..answer });
    }
    let decide = || async {
        let mut set = WriteSet::new();
        // First scope in the set, so that its revision is the one remembered with the answer.
        set.scope(scope.clone());
        acting_member(auth, caller, &organization, &mut set).await?;
        let found = users::by_id(&auth.store, &user.user_id).await?;
        let found = found.ok_or_else(|| Error::not_found("user", user.user_id.as_str()))?;
        if found.active.as_ref() == Some(&organization) {
            found.still_active(&mut set);
        } else {
            found.activate(&mut set, Some(&organization));
            let subject = user.user_id.as_str();
            let action = "organization.select";
            set.audit(audit(&organization, caller, "", action, subject, &request.request_id));
        }
        let shown = ShellUser {
            user_id: found.user_id.to_string(),
            login: found.login,
            display_name: found.display_name,
            active_organization_id: organization.to_string(),
        };
        let response = SelectOrganizationResponse { user: Some(shown), rev: 0 };
        key.remember(&mut set, &response, &auth.env);
        Ok((set, response))
    };
    let committed = auth.store.retry_on_conflict(decide).await;
    let (answer, rev) = key.settle(&auth.store, Some(&scope), committed).await?;
    Ok(SelectOrganizationResponse { rev, ..answer })
}

#[cfg(test)]
mod tests {
    use foundry_proto::auth::v1::GetAppShellRequest;

    use super::*;
    use crate::ops;
    use crate::testing::Fixture;

    async fn select(
        f: &Fixture,
        by: &Caller,
        id: &str,
        request_id: &str,
    ) -> Result<SelectOrganizationResponse> {
        let request =
            SelectOrganizationRequest { request_id: request_id.into(), organization_id: id.to_owned() };
        select_organization(&f.auth, by, request).await
    }

    #[tokio::test]
    async fn the_shell_shows_it_at_the_revision_that_was_answered() {
        let f = Fixture::new().await;
        let (_, home) = f.member("alice", "").await;
        let (alice, acme) = f.member("alice", "acme").await;
        let selected = select(&f, &alice, home.as_str(), "r1").await.unwrap();
        let seen = ops::get_app_shell::get_app_shell(&f.auth, &alice, GetAppShellRequest {}).await.unwrap();
        assert_eq!((seen.user, seen.rev), (selected.user.clone(), selected.rev));
        assert_eq!(selected.user.as_ref().unwrap().active_organization_id, home.as_str());
        select(&f, &alice, acme.as_str(), "").await.unwrap();
        assert_eq!(select(&f, &alice, home.as_str(), "r1").await.unwrap(), selected, "a repeat");
        let audited = f.audit(&home).await;
        assert_eq!(audited.iter().filter(|r| r.action == "organization.select").count(), 1);
    }

    #[tokio::test]
    async fn selecting_the_active_one_again_changes_nothing_and_answers_a_revision() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        assert!(select(&f, &alice, acme.as_str(), "").await.unwrap().rev > 0);
        assert!(f.audit(&acme).await.iter().all(|r| r.action != "organization.select"));
    }

    #[tokio::test]
    async fn a_foreign_organization_looks_absent_and_a_token_moves_nobody() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let (bob, _) = f.member("bob", "").await;
        let absent = OrganizationId::generate(&f.auth.env);
        for id in [acme.as_str(), absent.as_str()] {
            assert_eq!(select(&f, &bob, id, "").await.unwrap_err().reason(), "NOT_FOUND");
        }
        assert!(select(&f, &bob, "", "").await.is_err());
        let token = f.access_token(&alice, &acme, None).await;
        let program = f.caller(&token.secret).await.unwrap();
        let refused = select(&f, &program, acme.as_str(), "").await.unwrap_err();
        assert_eq!(refused.reason(), "SESSION_REQUIRED");
    }
}
