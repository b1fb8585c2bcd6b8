//! WatchAppShell: the app shell of a user.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, Result, UserId};
use foundry_proto::auth::v1::WatchAppShellRequest;
use foundry_watch_hub::Granted;

use super::reach;
use crate::auth::Auth;
use crate::store::{Reach, shell, users};

/// Authorizes the watch. Sets the request's user, and for a token its one organization.
///
/// # Errors
/// `NOT_FOUND` for another user or a foreign organization, `INVALID_ARGUMENT` for a service that names no user.
pub(crate) async fn grant(
    auth: &Auth,
    caller: &Caller,
    request: &mut WatchAppShellRequest,
) -> Result<Granted> {
    let shown = shown(auth, caller, request).await?;
    let organization = shown.reach.one().cloned();
    request.user_id = shown.user_id.to_string();
    request.organization_id = organization.as_ref().map(ToString::to_string).unwrap_or_default();
    Ok(Granted { view: shell::view(&shown.user_id, &shown.reach), organization })
}

/// The user whose shell is shown, and how much of it.
#[derive(Debug)]
struct Shown {
    user_id: UserId,
    reach: Reach,
}

/// What the caller may see of the requested shell.
async fn shown(auth: &Auth, caller: &Caller, request: &WatchAppShellRequest) -> Result<Shown> {
    let named: Option<UserId> = parsed(&request.user_id)?;
    let only: Option<OrganizationId> = parsed(&request.organization_id)?;
    let Some(user) = caller.as_user() else {
        // A service opens the watch as itself, after `AuthorizeWatch` for the user.
        let user_id =
            named.ok_or_else(|| Error::invalid_field("user_id", "is required for calls by a service"))?;
        users::by_id(&auth.store, &user_id).await?.ok_or_else(|| no_user(&user_id))?;
        return Ok(Shown { user_id, reach: only.map_or(Reach::All, Reach::One) });
    };
    if let Some(other) = named.filter(|n| *n != user.user_id) {
        return Err(no_user(&other));
    }
    let reach = match (reach(user), only) {
        (reach, Some(only)) if reach.includes(&only) && caller.role_in(&only).is_some() => Reach::One(only),
        (_, Some(only)) => return Err(Error::not_found("organization", only.as_str())),
        // The token's one organization is lost: nothing is left to show.
        (Reach::Nothing, None) => return Err(no_user(&user.user_id)),
        (reach, None) => reach,
    };
    Ok(Shown { user_id: user.user_id.clone(), reach })
}

fn parsed<T: std::str::FromStr<Err = Error>>(text: &str) -> Result<Option<T>> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

fn no_user(user: &UserId) -> Error {
    Error::not_found("user", user.as_str())
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use foundry_proto::auth::v1::{
        GetAppShellRequest, RemoveMemberRequest, SelectOrganizationRequest, SetMemberRequest,
    };
    use foundry_proto::common::v1::Role;
    use foundry_store::Scope;
    use foundry_watch::Op;
    use foundry_watch_hub::View as _;

    use super::*;
    use crate::ops;
    use crate::testing::Fixture;

    fn of(user: &str, organization: &str) -> WatchAppShellRequest {
        WatchAppShellRequest {
            options: None,
            user_id: user.to_owned(),
            organization_id: organization.to_owned(),
        }
    }

    /// Keys of the changes after a revision; a `-` marks deleted ones.
    async fn changes(f: &Fixture, user: &UserId, reach: &Reach, after: i64) -> Vec<String> {
        let snapshot = f.auth.store.snapshot().await.unwrap();
        let found = shell::view(user, reach).changes_after(&snapshot, after, 100).await.unwrap();
        let name =
            |c: &foundry_watch::Change| format!("{}{}", if c.op == Op::Deleted { "-" } else { "" }, c.key);
        let mut keys: Vec<_> = found.changes.iter().map(name).collect();
        keys.sort();
        keys
    }

    async fn head(f: &Fixture, user: &UserId) -> i64 {
        f.auth.store.head(&Scope::user(user)).await.unwrap()
    }

    #[tokio::test]
    async fn every_change_takes_a_revision_of_its_user_alone() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let (bob, home) = f.member("bob", "").await;
        let (alice_id, bob_id) =
            (alice.as_user().unwrap().user_id.clone(), bob.as_user().unwrap().user_id.clone());
        let alice_head = head(&f, &alice_id).await;
        let start = head(&f, &bob_id).await;
        let (user, shared) = (format!("user/{bob_id}"), format!("organization/{acme}"));
        assert_eq!(
            changes(&f, &bob_id, &Reach::All, 0).await,
            [format!("organization/{home}"), user.clone()]
        );

        let set = |role: Role| SetMemberRequest {
            request_id: String::new(),
            organization_id: acme.to_string(),
            login: "bob".into(),
            role: role.into(),
        };
        ops::set_member::set_member(&f.auth, &alice, set(Role::Viewer)).await.unwrap();
        assert_eq!(changes(&f, &bob_id, &Reach::All, start).await, from_ref(&shared));
        let joined = head(&f, &bob_id).await;
        ops::set_member::set_member(&f.auth, &alice, set(Role::Member)).await.unwrap();
        assert_eq!(changes(&f, &bob_id, &Reach::All, joined).await, from_ref(&shared));
        let raised = head(&f, &bob_id).await;
        let select =
            SelectOrganizationRequest { request_id: String::new(), organization_id: acme.to_string() };
        ops::select_organization::select_organization(&f.auth, &f.again(&bob).await, select).await.unwrap();
        assert_eq!(changes(&f, &bob_id, &Reach::All, raised).await, from_ref(&user));
        let selected = head(&f, &bob_id).await;

        let remove = RemoveMemberRequest {
            request_id: String::new(),
            organization_id: acme.to_string(),
            user_id: bob_id.to_string(),
        };
        ops::remove_member::remove_member(&f.auth, &alice, remove).await.unwrap();
        let gone = format!("-{shared}");
        assert_eq!(changes(&f, &bob_id, &Reach::All, selected).await, [gone.clone(), user.clone()]);
        assert_eq!(changes(&f, &bob_id, &Reach::One(acme.clone()), selected).await, [gone, user.clone()]);
        assert_eq!(changes(&f, &bob_id, &Reach::One(home.clone()), selected).await, [user], "not of another");
        let shell = ops::get_app_shell::get_app_shell(&f.auth, &f.again(&bob).await, GetAppShellRequest {})
            .await
            .unwrap();
        assert_eq!(shell.user.unwrap().active_organization_id, home.as_str(), "the next one takes its place");
        assert_eq!(head(&f, &alice_id).await, alice_head);
    }

    #[tokio::test]
    async fn a_user_sees_itself_and_no_other() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let (bob, _) = f.member("bob", "").await;
        let absent = UserId::generate(&f.auth.env);
        for user in [bob.actor(), absent.to_string()] {
            let refused = shown(&f.auth, &alice, &of(&user, "")).await.unwrap_err();
            assert_eq!(refused.reason(), "NOT_FOUND");
        }
        assert_eq!(shown(&f.auth, &bob, &of("", acme.as_str())).await.unwrap_err().reason(), "NOT_FOUND");
        for own in [alice.actor(), String::new()] {
            let it = shown(&f.auth, &alice, &of(&own, "")).await.unwrap();
            assert_eq!((it.user_id.to_string(), it.reach), (alice.actor(), Reach::All));
        }
    }

    #[tokio::test]
    async fn a_token_sees_its_one_organization_and_nothing_once_that_is_lost() {
        let f = Fixture::new().await;
        f.member("alice", "other").await;
        let (alice, acme) = f.member("alice", "acme").await;
        let made = f.access_token(&alice, &acme, None).await;
        let program = f.caller(&made.secret).await.unwrap();
        assert_eq!(shown(&f.auth, &program, &of("", "")).await.unwrap().reach, Reach::One(acme));
        let mut orphan = program.as_user().unwrap().clone();
        orphan.organizations.clear();
        let refused = shown(&f.auth, &Caller::user(orphan), &of("", "")).await.unwrap_err();
        assert_eq!(refused.reason(), "NOT_FOUND");
    }

    #[tokio::test]
    async fn a_service_says_whose_shell_it_wants() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let gateway = Caller::service("gateway");
        let unsaid = shown(&f.auth, &gateway, &of("", "")).await.unwrap_err();
        assert_eq!(unsaid.violations()[0].field, "user_id");
        let absent = UserId::generate(&f.auth.env);
        let refused = shown(&f.auth, &gateway, &of(absent.as_str(), "")).await.unwrap_err();
        assert_eq!(refused.reason(), "NOT_FOUND");
        let it = shown(&f.auth, &gateway, &of(&alice.actor(), acme.as_str())).await.unwrap();
        assert_eq!(it.reach, Reach::One(acme));
    }
}
