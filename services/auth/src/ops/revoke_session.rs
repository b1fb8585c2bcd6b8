//! RevokeSession: ends one of the caller's own sign-in sessions; all services refuse it within a second.

use foundry_authn::{Caller, credential_key};
use foundry_core::{CredentialId, Error, Result};
use foundry_proto::auth::v1::{RevokeSessionRequest, RevokeSessionResponse};
use foundry_service::{RequestKey, audit};
use foundry_store::WriteSet;

use super::{is_session, session_required};
use crate::auth::Auth;
use crate::store::{credentials, revocations, sessions, users};

const METHOD: &str = "RevokeSession";

pub(crate) async fn revoke_session(
    auth: &Auth,
    caller: &Caller,
    request: RevokeSessionRequest,
) -> Result<RevokeSessionResponse> {
    let user = caller.require_user()?;
    if !is_session(user) {
        return Err(session_required());
    }
    let id: CredentialId = request.credential_id.parse()?;
    let body = RevokeSessionRequest { request_id: String::new(), ..request.clone() };
    let key = RequestKey::new("", caller, METHOD, &request.request_id, &body)?;
    if let Some((first, _)) = key.first_answer(&auth.store).await? {
        return Ok(first);
    }
    let decide = || async {
        let found = sessions::find(&auth.store, id.as_str()).await?;
        let own = found.filter(|it| it.user_id == user.user_id);
        let mut session = own.ok_or_else(|| Error::not_found("session", id.as_str()))?;
        let mut set = WriteSet::new();
        if session.revoked_at.is_none() {
            let now = auth.env.clock.now();
            session.revoked_at = Some(now);
            credentials::revoke(&mut set, id.as_str(), now);
            revocations::add(&mut set, &credential_key(id.as_str()), now);
            // A session belongs to no organization; its end is audited in the user's active one.
            let active = users::by_id(&auth.store, &user.user_id).await?.and_then(|it| it.active);
            if let Some(place) = active {
                set.audit(audit(&place, caller, "", "session.close", id.as_str(), &request.request_id));
            }
        }
        let response = RevokeSessionResponse { session: Some(session.message(&user.credential_id)) };
        key.remember(&mut set, &response, &auth.env);
        Ok((set, response))
    };
    let committed = auth.store.retry_on_conflict(decide).await;
    Ok(key.settle(&auth.store, None, committed).await?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    async fn revoke(f: &Fixture, by: &Caller, id: &str) -> Result<RevokeSessionResponse> {
        let request = RevokeSessionRequest { request_id: String::new(), credential_id: id.into() };
        revoke_session(&f.auth, by, request).await
    }

    fn id(caller: &Caller) -> String {
        caller.as_user().unwrap().credential_id.to_string()
    }

    #[tokio::test]
    async fn another_device_is_refused_from_then_on_and_this_one_goes_on() {
        let f = Fixture::new().await;
        let session = f.sign_in("alice", "acme").await.unwrap().session_token;
        let lost = f.caller(&session).await.unwrap();
        let (alice, acme) = f.member("alice", "acme").await;
        let ended = revoke(&f, &alice, &id(&lost)).await.unwrap().session.unwrap();
        assert!(ended.revoke_time.is_some() && !ended.current);
        assert_eq!(f.caller(&session).await.unwrap_err().reason(), "TOKEN_REVOKED");
        f.follow().await;
        assert_eq!(f.auth.revocations.apply(lost.clone()).unwrap_err().reason(), "TOKEN_REVOKED");
        assert!(f.auth.revocations.apply(alice.clone()).is_ok());
        assert_eq!(
            revoke(&f, &alice, &id(&lost)).await.unwrap().session.unwrap(),
            ended,
            "a second time too"
        );
        let closed: Vec<_> =
            f.audit(&acme).await.into_iter().filter(|r| r.action == "session.close").collect();
        assert_eq!(closed.len(), 1);
        assert_eq!((closed[0].actor.as_str(), closed[0].subject.as_str()), (&*alice.actor(), &*id(&lost)));
    }

    #[tokio::test]
    async fn a_foreign_session_looks_absent_and_stays_good() {
        let f = Fixture::new().await;
        let session = f.sign_in("alice", "acme").await.unwrap().session_token;
        let alice = f.caller(&session).await.unwrap();
        let (bob, bobs) = f.member("bob", "").await;
        let foreign = revoke(&f, &bob, &id(&alice)).await.unwrap_err();
        let absent = CredentialId::generate(&f.auth.env);
        let nothing = revoke(&f, &bob, absent.as_str()).await.unwrap_err();
        let without = |e: &Error, id: &str| e.message().replace(id, "ID");
        assert_eq!(without(&foreign, &id(&alice)), without(&nothing, absent.as_str()));
        assert_eq!((foreign.reason(), nothing.reason()), ("NOT_FOUND", "NOT_FOUND"));
        let token = f.access_token(&bob, &bobs, None).await;
        let token_id = token.access_token.unwrap().access_token_id;
        assert_eq!(revoke(&f, &bob, &token_id).await.unwrap_err().violations()[0].field, "credential_id");
        let program = f.caller(&token.secret).await.unwrap();
        assert_eq!(revoke(&f, &program, &id(&bob)).await.unwrap_err().reason(), "SESSION_REQUIRED");
        assert!(f.caller(&session).await.is_ok());
    }
}
