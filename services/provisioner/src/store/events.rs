//! Table `agent_events`: the transcript parts of agents, in order, never changed. Those of a released session are deleted
//! by `runtime/reclaim.rs`.

use foundry_core::{Error, SessionId, Timestamp};
use foundry_proto::common::v1::TranscriptPart;
use foundry_proto::provisioner::v1::AgentEvent;
use foundry_service::stored_part;
use foundry_store::{RevRef, Row, Store, Table, Value, WriteSet};
use prost::Message as _;

use crate::domain::Session;

/// A row for each transcript part, by session and offset.
pub static EVENTS: Table = Table::new(
    "agent_events",
    &["session_id", "event_offset", "rev", "part"],
    &["session_id", "event_offset"],
);

/// For views: events of a session (`$1`) with an offset above `$2` by revision.
pub const CHANGED: &str = "SELECT session_id, event_offset, rev, part FROM agent_events \
     WHERE session_id = $1 AND event_offset > $2 AND rev > $3 ORDER BY rev, event_offset LIMIT $4";

/// The newest parts of a session, at most as many as a prompt repeats to an agent that lost its memory.
const NEWEST: &str =
    "SELECT part FROM agent_events WHERE session_id = $1 ORDER BY event_offset DESC LIMIT 5000";

/// What changes in the row of a session to which parts were appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the newest event.
    pub last_offset: i64,
    /// Encoded bytes of all events of the session that are stored.
    pub stored_bytes: i64,
}

impl Appended {
    /// The columns to set, in the write set of the parts.
    pub fn columns(self) -> [(&'static str, Value); 2] {
        [("last_offset", self.last_offset.into()), ("stored_bytes", self.stored_bytes.into())]
    }
}

/// Appends parts after the session's newest event; what it returns, the caller writes to the session's row in the same
/// write set.
pub fn append(
    ws: &mut WriteSet,
    session: &Session,
    rev: RevRef,
    now: Timestamp,
    parts: Vec<TranscriptPart>,
) -> Appended {
    let (mut last_offset, mut stored_bytes) = (session.last_offset, session.stored_bytes);
    for mut part in parts {
        last_offset += 1;
        part.create_time = Some(now.to_proto());
        let part = part.encode_to_vec();
        stored_bytes += i64::try_from(part.len()).unwrap_or(i64::MAX);
        ws.insert(&EVENTS, [(&session.session_id).into(), last_offset.into(), rev.into(), part.into()]);
    }
    Appended { last_offset, stored_bytes }
}

/// Deletes all events of a session, a few in each commit; returns how many.
pub async fn delete(store: &Store, session: &SessionId) -> Result<u64, Error> {
    const SQL: &str = "DELETE FROM agent_events WHERE session_id = $1 AND event_offset IN \
         (SELECT event_offset FROM agent_events WHERE session_id = $1 ORDER BY event_offset LIMIT $2) \
         RETURNING 1 AS gone";
    store.delete_in_chunks(SQL, &[session.into()]).await
}

/// A row as on the wire.
pub fn read(row: &Row) -> Result<AgentEvent, Error> {
    Ok(AgentEvent {
        session_id: row.text("session_id")?.to_owned(),
        offset: row.int("event_offset")?,
        part: Some(stored_part(row, "part", row.text("session_id")?)?),
    })
}

/// The newest parts of a session, at most 5000, in order.
pub async fn newest(store: &Store, session: &SessionId) -> Result<Vec<TranscriptPart>, Error> {
    let rows = store.query(NEWEST, &[session.into()]).await?;
    rows.iter().rev().map(|row| stored_part(row, "part", session.as_str())).collect()
}
