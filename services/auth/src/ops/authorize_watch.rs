//! AuthorizeWatch: what a user may watch, and by which request the edge watches it for all who may.

use foundry_authn::Caller;
use foundry_core::{Code, Error, Result};
use foundry_proto::auth::v1::WatchAppShellRequest;
use foundry_proto::watch::v1::{AuthorizeWatchRequest, AuthorizeWatchResponse};
use prost::Message as _;

use super::watch_app_shell::shown;
use crate::auth::Auth;
use crate::store::shell;

const WATCH_APP_SHELL: &str = "/foundry.auth.v1.AuthService/WatchAppShell";
const WATCH_REVOCATIONS: &str = "/foundry.auth.v1.AuthService/WatchRevocations";

pub(crate) async fn run(
    auth: &Auth,
    caller: &Caller,
    request: AuthorizeWatchRequest,
) -> Result<AuthorizeWatchResponse> {
    caller.require_user()?;
    match request.method.as_str() {
        WATCH_APP_SHELL => {}
        WATCH_REVOCATIONS => {
            let text = "this method is for services of the mesh only";
            return Err(Error::new(Code::PermissionDenied, "PERMISSION_DENIED", text));
        }
        _ => return Err(Error::invalid_field("method", "is no watch of the auth service")),
    }
    let wanted = WatchAppShellRequest::decode(request.request)
        .map_err(|_| Error::invalid_field("request", "cannot be read as a request of the method"))?;
    let shown = shown(auth, caller, &wanted).await?;
    let organization_id = shown.reach.one().map(ToString::to_string).unwrap_or_default();
    let subscribe = WatchAppShellRequest {
        options: None,
        user_id: shown.user_id.to_string(),
        organization_id: organization_id.clone(),
    };
    Ok(AuthorizeWatchResponse {
        view: shell::view_key(&shown.user_id, &shown.reach),
        request: subscribe.encode_to_vec().into(),
        organization_id,
    })
}

#[cfg(test)]
mod tests {
    use foundry_proto::watch::v1::WatchOptions;

    use super::*;
    use crate::testing::Fixture;

    fn asking(method: &str, request: &WatchAppShellRequest) -> AuthorizeWatchRequest {
        AuthorizeWatchRequest { method: method.to_owned(), request: request.encode_to_vec().into() }
    }

    #[tokio::test]
    async fn all_sessions_of_a_user_share_a_view_and_a_token_has_one_of_its_own() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let options = Some(WatchOptions { after_rev: 7, ..WatchOptions::default() });
        let plain = asking(WATCH_APP_SHELL, &WatchAppShellRequest::default());
        let first = run(&f.auth, &alice, plain.clone()).await.unwrap();
        let positioned = WatchAppShellRequest { options, ..Default::default() };
        let (again, _) = f.member("alice", "acme").await;
        let second = run(&f.auth, &again, asking(WATCH_APP_SHELL, &positioned)).await.unwrap();
        assert_eq!(first, second, "neither session nor position is part of a view");
        let subscribe = WatchAppShellRequest::decode(first.request).unwrap();
        assert_eq!((subscribe.user_id, subscribe.options), (alice.actor(), None));
        assert_eq!(first.organization_id, "", "it is the user's own");

        let token = f.access_token(&alice, &acme, None).await;
        let program = run(&f.auth, &f.caller(&token.secret).await.unwrap(), plain.clone()).await.unwrap();
        assert_ne!(program.view, first.view);
        assert_eq!(program.organization_id, acme.as_str());
        let subscribe = WatchAppShellRequest::decode(program.request).unwrap();
        assert_eq!(subscribe.organization_id, acme.as_str(), "the edge must not watch more than it may show");
        let (bob, _) = f.member("bob", "").await;
        assert_ne!(run(&f.auth, &bob, plain).await.unwrap().view, first.view);
    }

    #[tokio::test]
    async fn refuses_as_the_watch_itself_would_and_what_is_no_watch_here() {
        let f = Fixture::new().await;
        let (alice, _) = f.member("alice", "").await;
        let (bob, _) = f.member("bob", "").await;
        let foreign = WatchAppShellRequest { user_id: bob.actor(), ..Default::default() };
        let refused = run(&f.auth, &alice, asking(WATCH_APP_SHELL, &foreign)).await.unwrap_err();
        assert_eq!(refused.reason(), "NOT_FOUND");
        let closed = run(&f.auth, &alice, asking(WATCH_REVOCATIONS, &foreign)).await.unwrap_err();
        assert_eq!(closed.reason(), "PERMISSION_DENIED");
        let own = WatchAppShellRequest::default();
        for method in ["", "/foundry.auth.v1.AuthService/GetUser", "/foundry.task.v1.TaskService/WatchTask"] {
            let refused = run(&f.auth, &alice, asking(method, &own)).await.unwrap_err();
            assert_eq!(refused.violations()[0].field, "method", "{method}");
        }
        let garbage =
            AuthorizeWatchRequest { method: WATCH_APP_SHELL.into(), request: b"\xff\xff"[..].into() };
        assert_eq!(run(&f.auth, &alice, garbage).await.unwrap_err().violations()[0].field, "request");
        let service = run(&f.auth, &Caller::service("gateway"), asking(WATCH_APP_SHELL, &own)).await;
        assert_eq!(service.unwrap_err().reason(), "PERMISSION_DENIED");
    }
}
