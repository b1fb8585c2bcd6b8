//! Table `attachments`: stored files, without their bytes.

use foundry_core::{AttachmentId, Error, OrganizationId, SessionId, Timestamp};
use foundry_store::{Row, Store, Table, Value, WriteSet};

use super::id;
use crate::domain::attachment::{Attachment, AttachmentState};

/// A row for each stored file, from the intent to store it to the end of its removal.
pub static ATTACHMENTS: Table = Table::new(
    "attachments",
    &[
        "attachment_id",
        "organization_id",
        "name",
        "media_type",
        "size",
        "sha256",
        "state",
        "user_id",
        "session_id",
        "create_time",
        "expire_time",
    ],
    &["attachment_id"],
);

const BY_ID: &str = "SELECT * FROM attachments WHERE attachment_id = $1";
const LIST: &str = "SELECT * FROM attachments WHERE organization_id = $1 AND state = 'ready' \
     AND (create_time < $2 OR (create_time = $2 AND attachment_id < $3)) \
     ORDER BY create_time DESC, attachment_id DESC LIMIT $4";
const EXPIRED: &str = "SELECT * FROM attachments WHERE expire_time IS NOT NULL AND expire_time <= $1 ORDER BY expire_time LIMIT $2";
const TOTAL: &str =
    "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS total FROM attachments WHERE organization_id = $1";
const OF_AGENT: &str = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS total, COUNT(*) AS files \
     FROM attachments WHERE session_id = $1 AND user_id = ''";

fn read(row: &Row) -> Result<Attachment, Error> {
    let text = |column| row.text(column).map(str::to_owned);
    Ok(Attachment {
        attachment_id: id(row.text("attachment_id")?)?,
        organization_id: id(row.text("organization_id")?)?,
        name: text("name")?,
        media_type: text("media_type")?,
        size: row.int("size")?,
        sha256: text("sha256")?,
        state: AttachmentState::parse(row.text("state")?),
        user_id: text("user_id")?,
        session_id: text("session_id")?,
        create_time: row.time("create_time")?,
        expire_time: row.opt_time("expire_time")?,
    })
}

/// Adds a file whose bytes are still to be stored.
pub fn insert(ws: &mut WriteSet, file: &Attachment) {
    ws.insert(
        &ATTACHMENTS,
        [
            (&file.attachment_id).into(),
            (&file.organization_id).into(),
            file.name.as_str().into(),
            file.media_type.as_str().into(),
            file.size.into(),
            file.sha256.as_str().into(),
            file.state.as_str().into(),
            file.user_id.as_str().into(),
            file.session_id.as_str().into(),
            file.create_time.into(),
            file.expire_time.into(),
        ],
    );
}

/// Marks a file's bytes as stored; a conflict when it is no longer pending. `expire_time` is when it may be removed
/// unless it is used.
pub fn ready(ws: &mut WriteSet, id: &AttachmentId, expire_time: Option<Timestamp>) {
    let set = [("state", AttachmentState::Ready.as_str().into()), ("expire_time", expire_time.into())];
    ws.update(&ATTACHMENTS, &[id.into()], &set, &[("state", AttachmentState::Pending.as_str().into())]);
}

/// Keeps a file for a session until a time, or for good. A conflict when it changed since it was loaded.
pub fn keep(ws: &mut WriteSet, loaded: &Attachment, session: &str, until: Option<Timestamp>) {
    let set = [("session_id", session.into()), ("expire_time", until.into())];
    ws.update(&ATTACHMENTS, &[(&loaded.attachment_id).into()], &set, &as_loaded(loaded));
}

fn as_loaded(loaded: &Attachment) -> [(&'static str, Value); 2] {
    [("state", loaded.state.as_str().into()), ("expire_time", loaded.expire_time.into())]
}

/// Begins the removal of a file. A conflict when it was kept or removed since it was loaded.
pub fn remove(ws: &mut WriteSet, loaded: &Attachment, now: Timestamp) {
    let set = [("state", AttachmentState::Removing.as_str().into()), ("expire_time", now.into())];
    ws.update(&ATTACHMENTS, &[(&loaded.attachment_id).into()], &set, &as_loaded(loaded));
}

/// Deletes the row of a file whose bytes are gone.
pub fn delete(ws: &mut WriteSet, id: &AttachmentId) {
    ws.delete(&ATTACHMENTS, &[id.into()], &[("state", AttachmentState::Removing.as_str().into())]);
}

/// The file with this id, in any organization and state; the caller checks access.
pub async fn find(store: &Store, id: &AttachmentId) -> Result<Option<Attachment>, Error> {
    store.query(BY_ID, &[id.into()]).await?.first().map(read).transpose()
}

/// Files of an organization that are older than the given time and id, newest first.
pub async fn list(
    store: &Store,
    organization: &OrganizationId,
    (before, id): (i64, &str),
    limit: u32,
) -> Result<Vec<Attachment>, Error> {
    let rows = store.query(LIST, &[organization.into(), before.into(), id.into(), limit.into()]).await?;
    rows.iter().map(read).collect()
}

/// Files that may be removed, those that are due longest first.
pub async fn expired(store: &Store, now: Timestamp, limit: u32) -> Result<Vec<Attachment>, Error> {
    store.query(EXPIRED, &[now.into(), limit.into()]).await?.iter().map(read).collect()
}

/// What the files of an organization take in bytes, including those that are not stored yet or being removed.
pub async fn total(store: &Store, organization: &OrganizationId) -> Result<u64, Error> {
    number(store.query(TOTAL, &[organization.into()]).await?.first(), "total")
}

/// How many files a session's agent has stored, and what they take in bytes.
pub async fn of_agent(store: &Store, session: &SessionId) -> Result<(u64, u64), Error> {
    let rows = store.query(OF_AGENT, &[session.into()]).await?;
    Ok((number(rows.first(), "files")?, number(rows.first(), "total")?))
}

fn number(row: Option<&Row>, column: &str) -> Result<u64, Error> {
    let number = row.map(|r| r.int(column)).transpose()?.unwrap_or(0);
    Ok(u64::try_from(number).unwrap_or(0))
}
