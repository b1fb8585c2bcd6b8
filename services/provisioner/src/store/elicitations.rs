//! Table `elicitations`.

use foundry_core::{Error, SessionId};
use foundry_proto::common::v1::ElicitationRequest;
use foundry_store::{Store, Table, WriteSet};
use prost::Message as _;
use serde_json::Value;

use crate::domain::PermissionState;
use crate::domain::fold::Elicited;

/// A row for each form that an agent asked a person to fill in, by session and form id.
pub static ELICITATIONS: Table = Table::new(
    "elicitations",
    &["session_id", "elicitation_id", "ordinal", "acp_id", "request", "state", "answer"],
    &["session_id", "elicitation_id"],
);

const BY_ID: &str = "SELECT * FROM elicitations WHERE session_id = $1 AND elicitation_id = $2";
const PENDING: &str =
    "SELECT * FROM elicitations WHERE session_id = $1 AND state = 'pending' ORDER BY ordinal LIMIT 20";

/// A stored form.
#[derive(Clone, Debug)]
pub struct Elicitation {
    /// What was asked.
    pub request: ElicitationRequest,
    /// The agent's id of the request, JSON.
    pub acp_id: Value,
    /// Whether it waits for an answer.
    pub pending: bool,
    /// Whether it was answered; neither = its turn ended before.
    pub answered: bool,
    /// The answer as JSON, as it is sent to the agent; empty before.
    pub answer: String,
}

/// The request of a row, which names its own id.
pub fn decoded(row: &foundry_store::Row) -> Result<ElicitationRequest, Error> {
    let id = row.text("elicitation_id")?;
    row.own_message("request", |request: ElicitationRequest| {
        (request.elicitation_id == id).then_some(request)
    })
}

fn read(row: &foundry_store::Row) -> Result<Elicitation, Error> {
    Ok(Elicitation {
        request: decoded(row)?,
        acp_id: row.json("acp_id")?,
        pending: row.text("state")? == PermissionState::Pending.as_str(),
        answered: row.text("state")? == PermissionState::Answered.as_str(),
        answer: row.text("answer")?.to_owned(),
    })
}

/// Adds a form that the event with this offset asks for.
pub fn insert(ws: &mut WriteSet, session: &SessionId, ordinal: i64, asked: &Elicited) {
    ws.insert(
        &ELICITATIONS,
        [
            session.into(),
            asked.request.elicitation_id.as_str().into(),
            ordinal.into(),
            asked.acp_id.to_string().into(),
            asked.request.encode_to_vec().into(),
            PermissionState::Pending.as_str().into(),
            "".into(),
        ],
    );
}

/// Answers a pending form; anything else is a conflict.
pub fn answer(ws: &mut WriteSet, session: &SessionId, elicitation_id: &str, answer: &Value) {
    ws.update(
        &ELICITATIONS,
        &[session.into(), elicitation_id.into()],
        &[("state", PermissionState::Answered.as_str().into()), ("answer", answer.to_string().into())],
        &[("state", PermissionState::Pending.as_str().into())],
    );
}

/// Voids all pending forms of a session: their turn has ended.
pub fn void(ws: &mut WriteSet, session: &SessionId) {
    ws.update_where(
        &ELICITATIONS,
        &[("session_id", session.into()), ("state", PermissionState::Pending.as_str().into())],
        &[("state", PermissionState::Void.as_str().into())],
    );
}

/// The form with this id in a session.
pub async fn find(store: &Store, session: &SessionId, id: &str) -> Result<Option<Elicitation>, Error> {
    store.query(BY_ID, &[session.into(), id.into()]).await?.first().map(read).transpose()
}

/// The pending forms of a session, the oldest first.
pub async fn pending(store: &Store, session: &SessionId) -> Result<Vec<Elicitation>, Error> {
    store.query(PENDING, &[session.into()]).await?.iter().map(read).collect()
}
