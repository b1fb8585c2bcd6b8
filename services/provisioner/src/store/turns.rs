//! Table `turns`.

use foundry_core::{Error, MessageId, SessionId, Timestamp};
use foundry_store::{Row, Store, Table, Value, WriteSet};

use super::{Set, id};
use crate::domain::{Turn, TurnState};

/// A row for each prompt, by session and message id.
pub static TURNS: Table = Table::new(
    "turns",
    &[
        "session_id",
        "message_id",
        "prompt",
        "user_id",
        "state",
        "outcome",
        "cancel_requested",
        "flow_id",
        "create_time",
        "end_time",
        "attachments",
    ],
    &["session_id", "message_id"],
);

const BY_ID: &str = "SELECT * FROM turns WHERE session_id = $1 AND message_id = $2";
const ALL: &str = "SELECT * FROM turns WHERE session_id = $1 ORDER BY create_time, message_id";

fn read(row: &Row) -> Result<Turn, Error> {
    Ok(Turn {
        session_id: id(row.text("session_id")?)?,
        message_id: id(row.text("message_id")?)?,
        prompt: row.text("prompt")?.to_owned(),
        state: TurnState::parse(row.text("state")?),
        cancel_requested: row.bool("cancel_requested")?,
        flow_id: row.text("flow_id")?.to_owned(),
        attachments: match row.text("attachments")? {
            "" => Vec::new(),
            list => serde_json::from_str(list).map_err(Error::internal)?,
        },
    })
}

/// Adds a turn.
pub fn insert(ws: &mut WriteSet, turn: &Turn, user_id: &str, now: Timestamp) {
    ws.insert(
        &TURNS,
        [
            (&turn.session_id).into(),
            (&turn.message_id).into(),
            turn.prompt.as_str().into(),
            user_id.into(),
            turn.state.as_str().into(),
            0.into(),
            turn.cancel_requested.into(),
            turn.flow_id.as_str().into(),
            now.into(),
            Value::Null,
            attachments(turn),
        ],
    );
}

fn attachments(turn: &Turn) -> Value {
    match turn.attachments.is_empty() {
        true => "".into(),
        false => serde_json::json!(turn.attachments).to_string().into(),
    }
}

/// Fills in a turn that was cancelled before its prompt arrived; the cancellation stays.
pub fn arrive(ws: &mut WriteSet, awaited: &Turn, turn: &Turn, user_id: &str, now: Timestamp) {
    let set = vec![
        ("prompt", turn.prompt.as_str().into()),
        ("user_id", user_id.into()),
        ("state", turn.state.as_str().into()),
        ("flow_id", turn.flow_id.as_str().into()),
        ("create_time", now.into()),
        ("attachments", attachments(turn)),
    ];
    update(ws, awaited, set);
}

/// Changes a turn that is in the state it was loaded in; anything else is a conflict.
pub fn update(ws: &mut WriteSet, loaded: &Turn, set: Set) {
    let key = [(&loaded.session_id).into(), (&loaded.message_id).into()];
    ws.update(&TURNS, &key, &set, &[("state", loaded.state.as_str().into())]);
}

/// The turn of a prompt.
pub async fn find(store: &Store, session: &SessionId, message: &MessageId) -> Result<Option<Turn>, Error> {
    store.query(BY_ID, &[session.into(), message.into()]).await?.first().map(read).transpose()
}

/// The turn with this message id; none when the text is not an id.
pub async fn find_named(store: &Store, session: &SessionId, message: &str) -> Result<Option<Turn>, Error> {
    if message.is_empty() {
        return Ok(None);
    }
    find(store, session, &id(message)?).await
}

/// All turns of a session, the oldest first.
pub async fn all(store: &Store, session: &SessionId) -> Result<Vec<Turn>, Error> {
    store.query(ALL, &[session.into()]).await?.iter().map(read).collect()
}
