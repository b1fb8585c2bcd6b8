//! Table `transcript_entries`: what was said and done in each session, immutable. Those of tasks that were killed long
//! ago are deleted by `consume/ended.rs`.

use bytes::Bytes;
use foundry_core::{Result, SessionId};
use foundry_proto::common::v1::TranscriptPart;
use foundry_proto::task::v1::TranscriptEntry;
use foundry_service::stored_part;
use foundry_store::{RevRef, Row, Store, Table, WriteSet};
use prost::Message as _;

pub const ENTRIES: Table = Table::new(
    "transcript_entries",
    &["session_id", "entry_offset", "rev", "part"],
    &["session_id", "entry_offset"],
);

/// Entries of a session after an offset, by revision, for watches.
pub const BY_REV: &str = "SELECT session_id, entry_offset, rev, part FROM transcript_entries \
     WHERE session_id = $1 AND entry_offset > $2 AND rev > $3 ORDER BY rev LIMIT $4";

const PAGE: &str = "SELECT session_id, entry_offset, rev, part FROM transcript_entries \
     WHERE session_id = $1 AND entry_offset >= $2 ORDER BY entry_offset LIMIT $3";

/// Reads a row.
pub fn read(row: &Row) -> Result<TranscriptEntry> {
    Ok(TranscriptEntry {
        session_id: row.text("session_id")?.to_owned(),
        offset: row.int("entry_offset")?,
        part: Some(stored_part(row, "part", row.text("session_id")?)?),
    })
}

/// Adds an entry.
pub fn insert(ws: &mut WriteSet, feed: RevRef, session: &SessionId, offset: i64, part: &TranscriptPart) {
    let part = Bytes::from(part.encode_to_vec());
    ws.insert(&ENTRIES, [session.into(), offset.into(), feed.into(), part.into()]);
}

/// Entries from an offset on, in offset order.
pub async fn page(store: &Store, session: &SessionId, from: i64, limit: u32) -> Result<Vec<TranscriptEntry>> {
    store.query(PAGE, &[session.into(), from.into(), limit.into()]).await?.iter().map(read).collect()
}

/// Deletes the entries of a session before an offset, a few in each commit.
pub async fn delete_before(store: &Store, session: &SessionId, offset: i64) -> Result<u64> {
    const SQL: &str = "DELETE FROM transcript_entries WHERE session_id = $1 AND entry_offset IN \
         (SELECT entry_offset FROM transcript_entries WHERE session_id = $1 AND entry_offset < $2 \
          ORDER BY entry_offset LIMIT $3) RETURNING 1 AS gone";
    store.delete_in_chunks(SQL, &[session.into(), offset.into()]).await
}
