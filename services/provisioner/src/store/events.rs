//! Table `agent_events`: the transcript parts of agents, in order, never changed.

use foundry_core::{Error, SessionId, Timestamp};
use foundry_proto::common::v1::TranscriptPart;
use foundry_proto::provisioner::v1::AgentEvent;
use foundry_service::stored_part;
use foundry_store::{RevRef, Row, Store, Table, WriteSet};
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

/// Appends parts after the session's newest event; returns the new last offset, which the caller
/// writes to the session's row in the same write set.
pub fn append(
    ws: &mut WriteSet,
    session: &Session,
    rev: RevRef,
    now: Timestamp,
    parts: Vec<TranscriptPart>,
) -> i64 {
    let mut offset = session.last_offset;
    for mut part in parts {
        offset += 1;
        part.create_time = Some(now.to_proto());
        let values = [(&session.session_id).into(), offset.into(), rev.into(), part.encode_to_vec().into()];
        ws.insert(&EVENTS, values);
    }
    offset
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
