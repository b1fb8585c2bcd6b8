//! GetAppShell: the user and the organizations that clients show on every page.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::auth::v1::{GetAppShellRequest, GetAppShellResponse};

use super::reach;
use crate::auth::Auth;
use crate::store::shell::{self, Shell};

pub(crate) async fn get_app_shell(
    auth: &Auth,
    caller: &Caller,
    _: GetAppShellRequest,
) -> Result<GetAppShellResponse> {
    let user = caller.require_user()?;
    let found = shell::read(&auth.store, &user.user_id, &reach(user)).await?;
    let Shell { rev, user, organizations } =
        found.ok_or_else(|| Error::not_found("user", user.user_id.as_str()))?;
    Ok(GetAppShellResponse { rev, user: Some(user), organizations })
}

#[cfg(test)]
mod tests {
    use foundry_proto::auth::v1::OrganizationSyncState;
    use foundry_proto::common::v1::Role;

    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn shows_a_session_everything_and_a_token_its_one_organization() {
        let f = Fixture::new().await;
        let (_, zeta) = f.member("alice", "zeta").await;
        let (alice, acme) = f.member("alice", "acme").await;
        let seen = get_app_shell(&f.auth, &alice, GetAppShellRequest {}).await.unwrap();
        assert_eq!(seen.user.as_ref().unwrap().active_organization_id, acme.as_str());
        let names: Vec<_> = seen.organizations.iter().map(|o| (o.name.as_str(), o.role())).collect();
        assert_eq!(names, [("acme", Role::Owner), ("zeta", Role::Owner)]);
        let local = |o: &foundry_proto::auth::v1::ShellOrganization| {
            o.sync.as_ref().is_some_and(|s| s.state() == OrganizationSyncState::Local)
        };
        assert!(seen.organizations.iter().all(local) && seen.rev > 0);

        let token = f.access_token(&alice, &zeta, None).await;
        let seen = get_app_shell(&f.auth, &f.caller(&token.secret).await.unwrap(), GetAppShellRequest {})
            .await
            .unwrap();
        assert_eq!(seen.organizations.len(), 1);
        assert_eq!(seen.organizations[0].organization_id, zeta.as_str());
        assert_eq!(seen.user.unwrap().active_organization_id, "", "it must not learn of another");
    }

    #[tokio::test]
    async fn is_for_users_only() {
        let f = Fixture::new().await;
        let refused =
            get_app_shell(&f.auth, &Caller::service("gateway"), GetAppShellRequest {}).await.unwrap_err();
        assert_eq!(refused.reason(), "PERMISSION_DENIED");
    }
}
