//! Tables `drafts` and `read_marks`: the state of one user in one organization.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, Result, SessionId, TaskId, Timestamp, UserId};
use foundry_proto::task::v1 as pb;
use foundry_store::{RevRef, Row, Scope, Store, Table, Value, WriteSet};

/// Drafts, by subject.
pub const DRAFTS: Table = Table::new(
    "drafts",
    &["organization_id", "user_id", "subject", "rev", "update_time", "text"],
    &["organization_id", "user_id", "subject"],
);
/// Read marks, by session.
pub const READ_MARKS: Table = Table::new(
    "read_marks",
    &["organization_id", "user_id", "session_id", "task_id", "rev", "entry_offset"],
    &["organization_id", "user_id", "session_id"],
);
/// Kind of a draft's tombstone.
pub const DRAFT: &str = "draft";

/// Drafts of a user by revision, for watches.
pub const DRAFTS_BY_REV: &str = "SELECT subject, rev, update_time, text FROM drafts \
     WHERE organization_id = $1 AND user_id = $2 AND rev > $3 ORDER BY rev LIMIT $4";
/// Read marks of a user by revision, for watches.
pub const READ_MARKS_BY_REV: &str = "SELECT session_id, task_id, rev, entry_offset FROM read_marks \
     WHERE organization_id = $1 AND user_id = $2 AND rev > $3 ORDER BY rev LIMIT $4";

/// The user and organization that drafts and marks belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub organization: OrganizationId,
    pub user: UserId,
}

impl Owner {
    /// The state of a caller.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for a caller that is no user.
    pub fn of(organization: OrganizationId, caller: &Caller) -> Result<Self> {
        Ok(Self { organization, user: caller.require_user()?.user_id.clone() })
    }

    /// The scope in which this state is watched.
    pub fn scope(&self) -> Scope {
        Scope::other("user_state", &format!("{}/{}", self.organization, self.user))
    }

    fn key(&self, last: impl Into<Value>) -> [Value; 3] {
        [(&self.organization).into(), (&self.user).into(), last.into()]
    }
}

/// A stored draft or mark and its revision.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// Revision of its last change.
    pub rev: i64,
    /// The draft or mark as sent on the wire.
    pub entity: T,
}

/// Reads a row of [`DRAFTS_BY_REV`].
pub fn read_draft(row: &Row) -> Result<At<pb::Draft>> {
    let entity = pb::Draft {
        subject: row.text("subject")?.to_owned(),
        text: row.text("text")?.to_owned(),
        update_time: Some(row.time("update_time")?.to_proto()),
    };
    Ok(At { rev: row.int("rev")?, entity })
}

/// Reads a row of [`READ_MARKS_BY_REV`].
pub fn read_mark(row: &Row) -> Result<At<pb::ReadMark>> {
    let entity = pb::ReadMark {
        session_id: row.text("session_id")?.to_owned(),
        task_id: row.text("task_id")?.to_owned(),
        offset: row.int("entry_offset")?,
    };
    Ok(At { rev: row.int("rev")?, entity })
}

/// What a user typed about a subject and did not send.
pub async fn draft(store: &Store, owner: &Owner, subject: &str) -> Result<Option<At<pb::Draft>>> {
    const SQL: &str = "SELECT subject, rev, update_time, text FROM drafts \
         WHERE organization_id = $1 AND user_id = $2 AND subject = $3";
    store.query(SQL, &owner.key(subject)).await?.first().map(read_draft).transpose()
}

/// A read mark.
pub async fn mark(store: &Store, owner: &Owner, session: &SessionId) -> Result<Option<At<pb::ReadMark>>> {
    const SQL: &str = "SELECT session_id, task_id, rev, entry_offset FROM read_marks \
         WHERE organization_id = $1 AND user_id = $2 AND session_id = $3";
    store.query(SQL, &owner.key(session)).await?.first().map(read_mark).transpose()
}

/// The users who have a draft with this subject.
pub async fn drafted_by(store: &Store, organization: &OrganizationId, subject: &str) -> Result<Vec<UserId>> {
    const SQL: &str = "SELECT user_id FROM drafts WHERE organization_id = $1 AND subject = $2";
    let rows = store.query(SQL, &[organization.into(), subject.into()]).await?;
    rows.iter().map(|r| r.text("user_id")?.parse()).collect()
}

/// Stores a draft, replacing an earlier one of the same subject.
pub fn put_draft(ws: &mut WriteSet, rev: RevRef, owner: &Owner, subject: &str, text: &str, now: Timestamp) {
    let [organization, user, subject] = owner.key(subject);
    ws.upsert(&DRAFTS, [organization, user, subject, rev.into(), now.into(), text.into()]);
}

/// Removes a draft, if there is one, and leaves a tombstone.
pub fn remove_draft(ws: &mut WriteSet, owner: &Owner, subject: &str) -> RevRef {
    let rev = ws.scope(owner.scope());
    ws.remove(&DRAFTS, &owner.key(subject));
    ws.tombstone(rev, DRAFT, subject);
    rev
}

/// Removes a draft whose text is sent, and leaves a tombstone; fails if it is no longer the one that was read.
pub fn remove_sent_draft(ws: &mut WriteSet, rev: RevRef, owner: &Owner, draft: &At<pb::Draft>) {
    let subject = draft.entity.subject.as_str();
    ws.delete(&DRAFTS, &owner.key(subject), &[("rev", draft.rev.into())]);
    ws.tombstone(rev, DRAFT, subject);
}

/// Stores a read mark; fails if it is no longer the one that was read.
pub fn put_mark(
    ws: &mut WriteSet,
    rev: RevRef,
    owner: &Owner,
    (session, task): (&SessionId, &TaskId),
    before: Option<i64>,
    offset: i64,
) {
    let [organization, user, session] = owner.key(session);
    match before {
        None => {
            ws.insert(&READ_MARKS, [organization, user, session, task.into(), rev.into(), offset.into()]);
        }
        Some(before) => {
            let set = [("rev", rev.into()), ("entry_offset", offset.into())];
            ws.update(&READ_MARKS, &[organization, user, session], &set, &[("entry_offset", before.into())]);
        }
    }
}

#[cfg(test)]
mod tests {
    use foundry_core::{Code, Env, Error};
    use foundry_store::{Guard, StoreOptions};
    use foundry_testkit::PostgresDatabase;

    use super::*;

    /// Stores, moves, limits and removes state in one database.
    async fn round_trip(url: &str) {
        let env = Env::system();
        let migrations = [&crate::store::MIGRATIONS];
        let store = Store::connect(url, &migrations, &env, StoreOptions::default()).await.unwrap();
        let owner = Owner { organization: OrganizationId::generate(&env), user: UserId::generate(&env) };
        let (session, task) = (SessionId::generate(&env), TaskId::generate(&env));
        let mut ws = WriteSet::new();
        let rev = ws.scope(owner.scope());
        let own = [("organization_id", (&owner.organization).into()), ("user_id", (&owner.user).into())];
        ws.guard(Guard::count_below(&DRAFTS, &own, 1, "drafts"));
        put_draft(&mut ws, rev, &owner, session.as_str(), "text", env.clock.now());
        put_mark(&mut ws, rev, &owner, (&session, &task), None, 3);
        let again = ws.clone();
        store.commit(ws).await.unwrap();
        let full = Error::from(store.commit(again).await.unwrap_err());
        assert_eq!(full.code(), Code::ResourceExhausted);
        assert_eq!(draft(&store, &owner, session.as_str()).await.unwrap().unwrap().entity.text, "text");
        for (before, moved) in [(3, true), (2, false)] {
            let mut ws = WriteSet::new();
            let rev = ws.scope(owner.scope());
            put_mark(&mut ws, rev, &owner, (&session, &task), Some(before), 5);
            assert_eq!(store.commit(ws).await.is_ok(), moved, "from {before}");
        }
        let found = mark(&store, &owner, &session).await.unwrap().unwrap();
        assert_eq!((found.rev, found.entity.offset), (2, 5));
        let mut ws = WriteSet::new();
        remove_draft(&mut ws, &owner, session.as_str());
        store.commit(ws).await.unwrap();
        assert_eq!(drafted_by(&store, &owner.organization, session.as_str()).await.unwrap(), []);
        store.close().await;
    }

    #[tokio::test]
    async fn keeps_the_state_of_a_user_on_sqlite() {
        let dir = tempfile::tempdir().unwrap();
        round_trip(&format!("sqlite:{}", dir.path().join("task.db").display())).await;
    }

    #[tokio::test]
    async fn keeps_the_state_of_a_user_on_postgres() {
        round_trip(&PostgresDatabase::create().await.unwrap().url).await;
    }
}
