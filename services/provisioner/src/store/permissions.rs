//! Table `permissions`.

use foundry_core::{Error, SessionId};
use foundry_proto::common::v1::PermissionRequest;
use foundry_store::{Store, Table, WriteSet};
use prost::Message as _;

use crate::domain::PermissionState;
use crate::domain::fold::Asked;

/// A row for each permission request of an agent, by session and request id.
pub static PERMISSIONS: Table = Table::new(
    "permissions",
    &["session_id", "permission_id", "ordinal", "acp_id", "request", "state", "option_id"],
    &["session_id", "permission_id"],
);

const BY_ID: &str = "SELECT * FROM permissions WHERE session_id = $1 AND permission_id = $2";
const PENDING: &str =
    "SELECT * FROM permissions WHERE session_id = $1 AND state = 'pending' ORDER BY ordinal LIMIT 20";

/// A stored permission request.
#[derive(Clone, Debug)]
pub struct Permission {
    /// What was asked.
    pub request: PermissionRequest,
    /// The agent's id of the request, JSON.
    pub acp_id: serde_json::Value,
    /// Whether it waits for an answer.
    pub pending: bool,
    /// Whether it was answered; neither = its turn ended before.
    pub answered: bool,
    /// The option that was chosen; empty before.
    pub option_id: String,
}

/// The request of a row, which names its own id.
pub fn decoded(row: &foundry_store::Row) -> Result<PermissionRequest, Error> {
    let id = row.text("permission_id")?;
    row.own_message("request", |request: PermissionRequest| (request.permission_id == id).then_some(request))
}

fn read(row: &foundry_store::Row) -> Result<Permission, Error> {
    Ok(Permission {
        request: decoded(row)?,
        acp_id: row.json("acp_id")?,
        pending: row.text("state")? == PermissionState::Pending.as_str(),
        answered: row.text("state")? == PermissionState::Answered.as_str(),
        option_id: row.text("option_id")?.to_owned(),
    })
}

/// Adds a request that the event with this offset asks for.
pub fn insert(ws: &mut WriteSet, session: &SessionId, ordinal: i64, asked: &Asked, answered: Option<&str>) {
    let state = if answered.is_some() { PermissionState::Answered } else { PermissionState::Pending };
    ws.insert(
        &PERMISSIONS,
        [
            session.into(),
            asked.request.permission_id.as_str().into(),
            ordinal.into(),
            asked.acp_id.to_string().into(),
            asked.request.encode_to_vec().into(),
            state.as_str().into(),
            answered.unwrap_or_default().into(),
        ],
    );
}

/// Answers a pending request; anything else is a conflict.
pub fn answer(ws: &mut WriteSet, session: &SessionId, permission_id: &str, option_id: &str) {
    ws.update(
        &PERMISSIONS,
        &[session.into(), permission_id.into()],
        &[("state", PermissionState::Answered.as_str().into()), ("option_id", option_id.into())],
        &[("state", PermissionState::Pending.as_str().into())],
    );
}

/// Voids all pending requests of a session: their turn has ended.
pub fn void(ws: &mut WriteSet, session: &SessionId) {
    ws.update_where(
        &PERMISSIONS,
        &[("session_id", session.into()), ("state", PermissionState::Pending.as_str().into())],
        &[("state", PermissionState::Void.as_str().into())],
    );
}

/// The request with this id in a session.
pub async fn find(
    store: &Store,
    session: &SessionId,
    permission_id: &str,
) -> Result<Option<Permission>, Error> {
    store.query(BY_ID, &[session.into(), permission_id.into()]).await?.first().map(read).transpose()
}

/// The pending requests of a session, the oldest first.
pub async fn pending(store: &Store, session: &SessionId) -> Result<Vec<Permission>, Error> {
    store.query(PENDING, &[session.into()]).await?.iter().map(read).collect()
}
