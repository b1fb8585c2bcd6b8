//! Table `sessions`: facts and view of each session.

use bytes::Bytes;
use foundry_core::{Result, SessionId, TaskId};
use foundry_proto::task::v1 as pb;
use foundry_service::{Stored, damaged_condition, damaged_name};
use foundry_store::{Reader, RevRef, Row, Store, Table, Value, WriteSet};
use prost::Message as _;

use super::tasks::read_flow;
use crate::domain::asked::Asked;
use crate::domain::session::Session;

pub const SESSIONS: Table = Table::new(
    "sessions",
    &[
        "session_id",
        "task_id",
        "organization_id",
        "create_time",
        "rev",
        "feed_rev",
        "flow_id",
        "flow_stage",
        "flow_status",
        "flow_condition",
        "closed",
        "close_sent",
        "event_offset",
        "spoken_for",
        "spoken_here",
        "answered",
        "held_for",
        "retry_rev",
        "follows",
        "released",
        "asked",
        "view",
    ],
    &["session_id"],
);

/// The sessions of a task by revision, for watches.
pub const OF_TASK_BY_REV: &str = "SELECT session_id, task_id, organization_id, create_time, closed, rev, view FROM sessions WHERE task_id = $1 \
     AND rev > $2 ORDER BY rev LIMIT $3";
/// One session by its own revision, for watches.
pub const ONE_BY_REV: &str = "SELECT session_id, task_id, organization_id, create_time, closed, feed_rev, view \
     FROM sessions WHERE session_id = $1 AND feed_rev > $2 ORDER BY feed_rev LIMIT $3";

const OF_TASK: &str = "SELECT session_id, task_id, organization_id, create_time, rev, feed_rev, flow_id, flow_stage, \
     flow_status, flow_condition, closed, close_sent, event_offset, spoken_for, spoken_here, answered, held_for, \
     retry_rev, follows, released, asked, view FROM sessions WHERE task_id = $1 ORDER BY create_time, session_id";

const ONE: &str = "SELECT session_id, task_id, organization_id, create_time, rev, feed_rev, flow_id, flow_stage, \
     flow_status, flow_condition, closed, close_sent, event_offset, spoken_for, spoken_here, answered, held_for, \
     retry_rev, follows, released, asked, view FROM sessions WHERE session_id = $1";

fn read(row: &Row) -> Result<Session> {
    let view = view(row)?;
    let asked = Stored::of_parts(|damage| damage.part(row.json::<Asked>("asked")))?;
    Ok(Session {
        session_id: row.text("session_id")?.parse()?,
        task_id: row.text("task_id")?.parse()?,
        organization_id: row.text("organization_id")?.parse()?,
        create_time: row.time("create_time")?,
        rev: row.int("rev")?,
        feed_rev: row.int("feed_rev")?,
        flow: read_flow(row)?,
        closed: row.bool("closed")?,
        close_sent: row.bool("close_sent")?,
        event_offset: row.int("event_offset")?,
        spoken_for: row.text("spoken_for")?.to_owned(),
        spoken_here: row.bool("spoken_here")?,
        answered: row.text("answered")?.to_owned(),
        held_for: row.text("held_for")?.to_owned(),
        retry_rev: row.int("retry_rev")?,
        follows: row.bool("follows")?,
        released: row.bool("released")?,
        damaged: view.is_damaged() || asked.is_damaged(),
        asked: asked.entity,
        view: view.entity,
    })
}

fn view(row: &Row) -> Result<Stored<pb::Session>> {
    Stored::or(decoded(row), || unreadable(row, row.text("session_id")?))
}

/// The view of a row, which names its own session.
///
/// # Errors
/// `STORED_DATA_DAMAGED` when it does not, or cannot be decoded.
pub fn decoded(row: &Row) -> Result<pb::Session> {
    let id = row.text("session_id")?;
    row.own_message("view", |view: pb::Session| (view.session_id == id).then_some(view))
}

/// What stands for the view of a row that cannot be decoded.
fn unreadable(row: &Row, id: &str) -> Result<pb::Session> {
    let closed = row.bool("closed")?;
    Ok(pb::Session {
        session_id: id.to_owned(),
        task_id: row.text("task_id")?.to_owned(),
        organization_id: row.text("organization_id")?.to_owned(),
        name: damaged_name(id),
        state: if closed { pb::SessionState::Closed } else { pb::SessionState::Error }.into(),
        condition: Some(damaged_condition()),
        create_time: Some(row.time("create_time")?.to_proto()),
        ..pb::Session::default()
    })
}

/// The view of a row as it is sent.
pub fn shown(row: &Row) -> Result<Bytes> {
    view(row)?.encoded(row, "view")
}

/// A session in any task.
pub async fn find(store: &Store, session: &SessionId) -> Result<Option<Session>> {
    store.query(ONE, &[session.into()]).await?.first().map(read).transpose()
}

/// The sessions of a task, oldest first.
pub async fn of_task(from: &impl Reader, task: &TaskId) -> Result<Vec<Session>> {
    from.query(OF_TASK, &[task.into()]).await?.iter().map(read).collect()
}

/// How far the transcript of a session is, and whether it is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventCursor {
    /// Offset of the newest agent event that the transcript holds; 0 before the first.
    pub offset: i64,
    /// Whether the agent has more events, or may have them soon.
    pub follows: bool,
}

/// Where the events of a session go on; none when it does not exist.
pub async fn event_cursor(store: &Store, session: &SessionId) -> Result<Option<EventCursor>> {
    const SQL: &str = "SELECT event_offset, follows FROM sessions WHERE session_id = $1";
    let rows = store.query(SQL, &[session.into()]).await?;
    let read = |r: &Row| Ok(EventCursor { offset: r.int("event_offset")?, follows: r.bool("follows")? });
    rows.first().map(read).transpose()
}

/// Where a session belongs: its task.
pub async fn task_of(store: &Store, session: &SessionId) -> Result<Option<TaskId>> {
    const SQL: &str = "SELECT task_id FROM sessions WHERE session_id = $1";
    let rows = store.query(SQL, &[session.into()]).await?;
    rows.first().map(|r| r.text("task_id")?.parse()).transpose()
}

/// The sessions whose agent events must be followed, oldest first.
pub async fn followed(store: &Store, limit: u32) -> Result<Vec<(SessionId, TaskId)>> {
    const SQL: &str = "SELECT session_id, task_id FROM sessions WHERE follows = 1 ORDER BY create_time, session_id LIMIT $1";
    let rows = store.query(SQL, &[limit.into()]).await?;
    rows.iter().map(|r| Ok((r.text("session_id")?.parse()?, r.text("task_id")?.parse()?))).collect()
}

/// A map with text keys always serializes to JSON.
fn asked(s: &Session) -> Value {
    serde_json::to_string(&s.asked).unwrap_or_else(|_| "{}".to_owned()).into()
}

/// Adds a new session.
pub fn insert(ws: &mut WriteSet, rev: RevRef, feed: RevRef, s: &Session) {
    let values: Vec<Value> = vec![
        (&s.session_id).into(),
        (&s.task_id).into(),
        (&s.organization_id).into(),
        s.create_time.into(),
        rev.into(),
        feed.into(),
        (&s.flow.flow_id).into(),
        s.flow.stage.as_str().into(),
        s.flow.status.as_str().into(),
        s.flow.condition.encode_to_vec().into(),
        s.closed.into(),
        s.close_sent.into(),
        s.event_offset.into(),
        s.spoken_for.as_str().into(),
        s.spoken_here.into(),
        s.answered.as_str().into(),
        s.held_for.as_str().into(),
        s.retry_rev.into(),
        s.follows.into(),
        s.released.into(),
        asked(s),
        s.view.encode_to_vec().into(),
    ];
    ws.insert(&SESSIONS, values);
}

/// Updates a session's row; the fence of its task guards the write.
pub fn update(ws: &mut WriteSet, revs: Option<(RevRef, RevRef)>, before: &Session, s: &Session) {
    let mut set: Vec<(&'static str, Value)> = vec![
        ("closed", s.closed.into()),
        ("close_sent", s.close_sent.into()),
        ("event_offset", s.event_offset.into()),
        ("spoken_for", s.spoken_for.as_str().into()),
        ("spoken_here", s.spoken_here.into()),
        ("answered", s.answered.as_str().into()),
        ("held_for", s.held_for.as_str().into()),
        ("retry_rev", s.retry_rev.into()),
        ("follows", s.follows.into()),
    ];
    if before.released != s.released {
        set.push(("released", s.released.into()));
    }
    if before.flow != s.flow {
        set.push(("flow_stage", s.flow.stage.as_str().into()));
        set.push(("flow_status", s.flow.status.as_str().into()));
        set.push(("flow_condition", s.flow.condition.encode_to_vec().into()));
    }
    // What cannot be decoded is kept for a repair.
    if !s.damaged {
        set.push(("asked", asked(s)));
    }
    if let Some((rev, feed)) = revs {
        set.push(("rev", rev.into()));
        set.push(("feed_rev", feed.into()));
        if !s.damaged {
            set.push(("view", s.view.encode_to_vec().into()));
        }
    }
    ws.update(&SESSIONS, &[(&s.session_id).into()], &set, &[]);
}
