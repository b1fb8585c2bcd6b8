//! ListSessions: the caller's own sign-in sessions that are valid, newest first.

use foundry_authn::Caller;
use foundry_core::{CredentialId, PageRequest, PageToken, Result};
use foundry_proto::auth::v1::{ListSessionsRequest, ListSessionsResponse};

use super::{is_session, session_required};
use crate::auth::Auth;
use crate::store::sessions;

pub(crate) async fn list_sessions(
    auth: &Auth,
    caller: &Caller,
    request: ListSessionsRequest,
) -> Result<ListSessionsResponse> {
    let user = caller.require_user()?;
    if !is_session(user) {
        return Err(session_required());
    }
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let session = |text: &str| text.parse::<CredentialId>().ok().map(|id| id.to_string());
    let before = page.begins_after(String::new(), session)?;
    let now = auth.env.clock.now();
    let found = sessions::of_user(&auth.store, &user.user_id, now, &before, page.limit()).await?;
    let (found, next) = page.cut(found, |it| it.credential_id.to_string());
    Ok(ListSessionsResponse {
        sessions: found.iter().map(|it| it.message(&user.credential_id)).collect(),
        next_page_token: PageToken::encode_next(next),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use foundry_proto::auth::v1::{Session, SessionKind, SignInMeans};

    use super::*;
    use crate::ops;
    use crate::testing::Fixture;

    async fn list(f: &Fixture, caller: &Caller) -> Vec<foundry_proto::auth::v1::Session> {
        list_sessions(&f.auth, caller, ListSessionsRequest::default()).await.unwrap().sessions
    }

    #[tokio::test]
    async fn shows_each_device_with_how_and_when_it_signed_in() {
        let f = Fixture::new().await;
        let (program, acme) = f.member("alice", "acme").await;
        f.clock.advance(Duration::from_secs(60));
        let page = f.in_the_page("alice", "acme").await;
        f.member("bob", "").await;
        let seen = list(&f, &page).await;
        assert_eq!(seen.len(), 2, "and none of bob's");
        let [newest, oldest] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((newest.kind(), newest.device.as_str()), (SessionKind::Page, "Firefox on Linux"));
        assert_eq!((newest.means(), newest.address.as_str()), (SignInMeans::Development, "127.0.0.1"));
        assert!(newest.current && !oldest.current);
        assert_eq!(oldest.kind(), SessionKind::Bearer);
        assert!(list(&f, &program).await[1].current, "each sees its own as the current one");
        let times =
            |s: &Session| [s.create_time, s.expire_time].map(|time| time.map(|t| (t.seconds, t.nanos)));
        let (new, old) = (times(newest), times(oldest));
        assert!(new[0] > old[0] && new[1] > old[1], "{seen:?}");

        let token = f.access_token(&page, &acme, None).await;
        let token = f.caller(&token.secret).await.unwrap();
        let refused = list_sessions(&f.auth, &token, ListSessionsRequest::default()).await.unwrap_err();
        assert_eq!(refused.reason(), "SESSION_REQUIRED");
    }

    #[tokio::test]
    async fn what_has_ended_is_not_shown_and_pages_follow_each_other() {
        let f = Fixture::new().await;
        let (alice, _) = f.member("alice", "").await;
        for _ in 0..2 {
            f.clock.advance(Duration::from_secs(1));
            f.member("alice", "").await;
        }
        let request = |page_token| ListSessionsRequest { page_size: 2, page_token };
        let first = list_sessions(&f.auth, &alice, request(String::new())).await.unwrap();
        let rest = list_sessions(&f.auth, &alice, request(first.next_page_token)).await.unwrap();
        assert_eq!((first.sessions.len(), rest.sessions.len()), (2, 1));
        assert_eq!(rest.next_page_token, "");
        let (last, _) = f.member("alice", "").await;
        ops::sign_out::sign_out(&f.auth, &alice).await.unwrap();
        assert_eq!(list(&f, &last).await.len(), 3);
        f.clock.advance(f.auth.config.session_lifetime);
        assert_eq!(list(&f, &last).await, []);
    }
}
