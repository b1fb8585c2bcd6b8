//! What all commands share: a repeated request gets its first answer, and every change has an audit record.

use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{Env, Error, OrganizationId, Result};
use foundry_server::RequestContext;
use foundry_store::{AuditRecord, BodyHash, CommitError, Committed, IdempotencyKey, Scope, Store, WriteSet};
use prost::Message;

/// Longest request id in bytes.
pub const MAX_REQUEST_ID: usize = 128;
/// How long the answer of a command is remembered; that of one that creates an entity is remembered for ever.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Identifies repeats of a request: organization, caller, method and request id. The same id with another body is
/// refused. A request without an id is never a repeat.
#[derive(Clone)]
pub struct RequestKey {
    key: IdempotencyKey,
    hash: BodyHash,
}

impl RequestKey {
    /// The key of a caller's command. `organization` is empty for a command outside of organizations; `method` is the
    /// rpc's bare name.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a request id that is too long or contains a NUL character.
    pub fn new(
        organization: &str,
        caller: &Caller,
        method: &'static str,
        request_id: &str,
        body: &impl Message,
    ) -> Result<Self> {
        if request_id.len() > MAX_REQUEST_ID {
            let text = format!("is {} bytes; the limit is {MAX_REQUEST_ID}", request_id.len());
            return Err(Error::invalid_field("request_id", text));
        }
        if request_id.contains('\0') {
            return Err(Error::invalid_field("request_id", "must not contain NUL characters"));
        }
        let key = IdempotencyKey {
            organization: organization.to_owned(),
            caller: caller.actor(),
            method,
            request_id: request_id.to_owned(),
        };
        Ok(Self { key, hash: BodyHash::of(&body.encode_to_vec()) })
    }

    /// The first answer to this request and the revision of its change, if it was already committed.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED` when the same id was used with another request.
    pub async fn first_answer<A: Message + Default>(&self, store: &Store) -> Result<Option<(A, i64)>> {
        let Some(first) = store.replay(&self.key, self.hash).await? else { return Ok(None) };
        Ok(Some((A::decode(first.response).map_err(Error::internal)?, first.rev)))
    }

    /// Remembers, in the write set of the change, the answer to a command that creates an entity: for ever.
    pub fn remember_create(&self, ws: &mut WriteSet, answer: &impl Message) {
        ws.idempotency(self.key.clone(), self.hash, answer.encode_to_vec(), None);
    }

    /// Remembers, in the write set of the change, the answer to any other command: for a week.
    pub fn remember(&self, ws: &mut WriteSet, answer: &impl Message, env: &Env) {
        let until = env.clock.now().plus(REMEMBERED);
        ws.idempotency(self.key.clone(), self.hash, answer.encode_to_vec(), Some(until));
    }

    /// The answer after the commit, and the revision of its change in `scope`; 0 without one. If the same request ran
    /// at the same time and was committed first, its answer is returned, even where this one was refused: the other's
    /// change may have made this one illegal.
    ///
    /// # Errors
    /// Those of the decision and of the commit.
    pub async fn settle<A: Message + Default>(
        &self,
        store: &Store,
        scope: Option<&Scope>,
        committed: Result<(Committed, A), CommitError>,
    ) -> Result<(A, i64)> {
        match committed {
            Ok((committed, answer)) => {
                let rev = scope.and_then(|scope| committed.scope_rev(scope)).unwrap_or_default();
                Ok((answer, rev))
            }
            Err(CommitError::Replayed { response, rev }) => {
                Ok((A::decode(response).map_err(Error::internal)?, rev))
            }
            Err(CommitError::Refused(e)) => self.first_answer(store).await?.ok_or(e),
            Err(e) => Err(e.into()),
        }
    }
}

/// The audit record of a caller's change. `user_id` is the user for whom a service acts, where its request names one;
/// empty = the user of its token. `request_id` is that of the command.
pub fn audit(
    organization: &OrganizationId,
    caller: &Caller,
    user_id: &str,
    action: &str,
    subject: &str,
    request_id: &str,
) -> AuditRecord {
    let named = (!user_id.is_empty()).then(|| user_id.to_owned());
    let behalf = named.or_else(|| caller.on_behalf_of().map(ToString::to_string));
    let record = audit_as(&caller.actor(), organization, action, subject, request_id);
    match behalf.filter(|user| *user != record.actor) {
        Some(user) => with_detail(record, serde_json::json!({ "on_behalf_of": user })),
        None => record,
    }
}

/// The audit record of a change whose actor is not a caller yet, such as a user who signs in.
pub fn audit_as(
    actor: &str,
    organization: &OrganizationId,
    action: &str,
    subject: &str,
    request_id: &str,
) -> AuditRecord {
    AuditRecord {
        organization_id: organization.to_string(),
        actor: actor.to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail_json: "{}".to_owned(),
        request_id: request_id.to_owned(),
        trace: RequestContext::current_traceparent(),
    }
}

/// The record with these fields added to its detail. `detail` must be an object, and never holds a secret.
pub fn with_detail(record: AuditRecord, detail: serde_json::Value) -> AuditRecord {
    let mut all: serde_json::Map<_, _> = serde_json::from_str(&record.detail_json).unwrap_or_default();
    if let serde_json::Value::Object(more) = detail {
        all.extend(more);
    }
    AuditRecord { detail_json: serde_json::Value::Object(all).to_string(), ..record }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use foundry_authn::UserCaller;
    use foundry_core::{Code, Timestamp, UserId};
    use foundry_testkit::test_env;

    use super::*;
    use crate::Database;

    fn user(env: &Env) -> Caller {
        Caller::user(UserCaller {
            user_id: UserId::generate(env),
            credential_id: "crd_1".into(),
            organizations: BTreeMap::new(),
            revocations_rev: 0,
            expires_at: Timestamp::from_micros(i64::MAX),
        })
    }

    #[tokio::test]
    async fn a_repeat_gets_the_first_answer_also_when_its_twin_made_it_illegal() {
        let time = test_env();
        let dir = tempfile::tempdir().unwrap();
        let url = foundry_testkit::database_url(dir.path(), "commands").await;
        let store = Database::open(&url, dir.path(), "commands", &[], &time.env).await.unwrap().store;
        let (caller, scope) = (user(&time.env), Scope::other("test", "one"));
        let body = prost_types::Duration { seconds: 1, nanos: 0 };
        let key = RequestKey::new("org", &caller, "Act", "r1", &body).unwrap();
        let answer = prost_types::Duration { seconds: 7, nanos: 0 };
        let decide = || async {
            let mut ws = WriteSet::new();
            ws.scope(scope.clone());
            key.remember(&mut ws, &answer, &time.env);
            Ok((ws, answer))
        };
        let first = key.settle(&store, Some(&scope), store.retry_on_conflict(decide).await).await.unwrap();
        assert_eq!(first, (answer, 1));
        let refused = Err(CommitError::Refused(Error::not_found("thing", "t")));
        assert_eq!(key.settle(&store, Some(&scope), refused).await.unwrap(), first);
        let other = RequestKey::new("org", &caller, "Act", "r2", &body).unwrap();
        let refused = Err(CommitError::Refused(Error::not_found("thing", "t")));
        let error = other.settle::<prost_types::Duration>(&store, Some(&scope), refused).await.unwrap_err();
        assert_eq!(error.reason(), "NOT_FOUND");
    }

    #[test]
    fn a_request_id_has_at_most_128_bytes_in_every_service() {
        let caller = user(&test_env().env);
        let with = |id: &str| RequestKey::new("", &caller, "Act", id, &());
        assert!(with(&"x".repeat(128)).is_ok());
        assert_eq!(with(&"x".repeat(129)).err().unwrap().reason(), "INVALID_FIELD");
    }

    #[test]
    fn a_request_id_with_a_nul_character_is_refused() {
        let error = RequestKey::new("", &user(&test_env().env), "Act", "a\0b", &()).err().unwrap();
        assert_eq!(
            (error.code(), error.violations()[0].field.as_str()),
            (Code::InvalidArgument, "request_id")
        );
    }

    #[test]
    fn the_audit_names_the_user_for_whom_a_service_acts() {
        let env = test_env().env;
        let (organization, caller) = (OrganizationId::generate(&env), user(&env));
        let own = audit(&organization, &caller, "", "thing.do", "t", "r");
        assert_eq!((own.actor.as_str(), own.detail_json.as_str()), (caller.actor().as_str(), "{}"));
        let service = Caller::service("task");
        let acted = audit(&organization, &service, "usr_1", "thing.do", "t", "r");
        let acted = with_detail(acted, serde_json::json!({ "fields": ["name"] }));
        assert_eq!(acted.actor, "service:task");
        let detail: serde_json::Value = serde_json::from_str(&acted.detail_json).unwrap();
        assert_eq!(detail, serde_json::json!({ "on_behalf_of": "usr_1", "fields": ["name"] }));
    }
}
