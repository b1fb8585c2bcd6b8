//! Table `agent_sessions`.

use foundry_core::{Error, OrganizationId, SandboxId, SessionId};
use foundry_proto::common::v1::PermissionPolicy;
use foundry_service::{Stored, damaged_condition, readable_rows, stored_condition};
use foundry_store::{RevRef, Row, Scope, Store, Table, Value, WriteSet};
use prost::Message as _;

use super::stages::select_stages;
use super::{Set, condition_value, id, stages};
use crate::domain::fold::Fold;
use crate::domain::{Offer, SESSION_STAGES, Session, SessionState};

/// Values of the column `released`: the events are kept, are to be deleted, are deleted.
const KEPT: i64 = 0;
const RELEASED: i64 = 1;
const DELETED: i64 = 2;

/// A row for each agent session, also closed ones.
pub static SESSIONS: Table = Table::new(
    "agent_sessions",
    &[
        "session_id",
        "organization_id",
        "task_id",
        "sandbox_id",
        "agent",
        "permission_policy",
        "state",
        "condition",
        "message_id",
        "turn_count",
        "acp_session",
        "generation",
        "told_generation",
        "cursor",
        "fold",
        "pending_permission",
        "last_offset",
        "flow_id",
        "user_id",
        "create_time",
        "profile_id",
        "offer",
        "rev",
        "session_rev",
    ],
    &["session_id"],
);

macro_rules! select {
    ($tail:literal) => {
        concat!("SELECT a.*, ", select_stages!("a.session_id"), " FROM agent_sessions a ", $tail)
    };
}

const BY_ID: &str = select!("WHERE a.session_id = $1");
const OF_SANDBOX: &str = select!("WHERE a.sandbox_id = $1 ORDER BY a.session_id");
/// For views: rows of an organization by revision.
pub const CHANGED: &str = select!("WHERE a.organization_id = $1 AND a.rev > $2 ORDER BY a.rev LIMIT $3");
/// The same, of one sandbox (`$2`).
pub const CHANGED_OF_SANDBOX: &str =
    select!("WHERE a.organization_id = $1 AND a.sandbox_id = $2 AND a.rev > $3 ORDER BY a.rev LIMIT $4");
/// One session by the revision of its own scope.
pub const CHANGED_ONE: &str =
    select!("WHERE a.session_id = $1 AND a.session_rev > $2 ORDER BY a.session_rev LIMIT $3");

/// Reads a row with its stages.
pub fn read(row: &Row) -> Result<Session, Error> {
    stored(row)?.whole()
}

/// The same for watches, which show one that cannot be decoded.
pub fn shown(row: &Row) -> Result<Session, Error> {
    Ok(stored(row)?.shown(|session| session.condition = damaged_condition()))
}

fn stored(row: &Row) -> Result<Stored<Session>, Error> {
    let text = |column| row.text(column).map(str::to_owned);
    let policy = i32::try_from(row.int("permission_policy")?).unwrap_or_default();
    Stored::of_parts(|damage| {
        Ok(Session {
            session_id: id(row.text("session_id")?)?,
            organization_id: id(row.text("organization_id")?)?,
            task_id: text("task_id")?,
            sandbox_id: id(row.text("sandbox_id")?)?,
            agent: text("agent")?,
            permission_policy: PermissionPolicy::try_from(policy).unwrap_or(PermissionPolicy::Ask),
            state: SessionState::parse(row.text("state")?),
            condition: stored_condition(row, "condition", row.text("session_id")?)?,
            model_provider_id: text("model_provider_id")?,
            model_answered: text("model_answered")?,
            model_noticed: text("model_noticed")?,
            model_condition: damage.part(row.opt_message("model_condition"))?,
            message_id: text("message_id")?,
            turn_count: row.int("turn_count")?,
            acp_session: text("acp_session")?,
            prompt_kinds: text("prompt_kinds")?,
            generation: row.int("generation")?,
            reported_generation: row.int("told_generation")?,
            cursor: damage.part(row.json("cursor"))?,
            fold: damage.part(row.json::<Fold>("fold"))?,
            pending_permission: damage.part(row.opt_message("pending_permission"))?,
            pending_elicitation: damage.part(row.opt_message("pending_elicitation"))?,
            offer: damage.part(row.json::<Offer>("offer"))?,
            last_offset: row.int("last_offset")?,
            stored_bytes: row.int("stored_bytes")?,
            left_out_bytes: row.int("left_out_bytes")?,
            flow_id: text("flow_id")?,
            create_time: row.time("create_time")?,
            profile_id: text("profile_id")?,
            stages: stages::read(row.opt_text("stages")?, &SESSION_STAGES)?,
            rev: row.int("rev")?,
            session_rev: row.int("session_rev")?,
        })
    })
}

/// The revisions of one change of a session.
#[derive(Clone, Copy)]
pub struct Revs {
    /// In the scope of the organization.
    pub organization: RevRef,
    /// In the scope of the session.
    pub session: RevRef,
}

/// Allocates the revisions of a change in the write set.
pub fn revs(ws: &mut WriteSet, organization: &OrganizationId, session: &SessionId) -> Revs {
    Revs {
        organization: ws.scope(Scope::organization(organization)),
        session: ws.scope(Scope::session(session)),
    }
}

fn stamped(mut set: Set, revs: Revs) -> Set {
    set.extend([("rev", revs.organization.into()), ("session_rev", revs.session.into())]);
    set
}

/// Adds a new session with its stages.
pub fn insert(ws: &mut WriteSet, s: &Session, user_id: &str) -> Result<Revs, Error> {
    let revs = revs(ws, &s.organization_id, &s.session_id);
    ws.insert(
        &SESSIONS,
        [
            (&s.session_id).into(),
            (&s.organization_id).into(),
            s.task_id.as_str().into(),
            (&s.sandbox_id).into(),
            s.agent.as_str().into(),
            i32::from(s.permission_policy).into(),
            s.state.as_str().into(),
            condition_value(&s.condition),
            "".into(),
            0.into(),
            "".into(),
            s.generation.into(),
            s.reported_generation.into(),
            json(&s.cursor)?,
            json(&s.fold)?,
            Value::Null,
            0.into(),
            s.flow_id.as_str().into(),
            user_id.into(),
            s.create_time.into(),
            s.profile_id.as_str().into(),
            json(&s.offer)?,
            revs.organization.into(),
            revs.session.into(),
        ],
    );
    stages::reset(ws, s.session_id.as_str(), &SESSION_STAGES);
    Ok(revs)
}

/// Moves a session that is as it was loaded to another sandbox, and resets its stages.
pub fn rehome(ws: &mut WriteSet, s: &Session) -> Result<Revs, Error> {
    stages::reset(ws, s.session_id.as_str(), &SESSION_STAGES);
    let set = vec![
        ("sandbox_id", (&s.sandbox_id).into()),
        ("agent", s.agent.as_str().into()),
        ("profile_id", s.profile_id.as_str().into()),
        ("permission_policy", i32::from(s.permission_policy).into()),
        ("state", s.state.as_str().into()),
        ("condition", condition_value(&s.condition)),
        ("acp_session", "".into()),
        ("model_condition", Value::Null),
        ("generation", s.generation.into()),
        ("cursor", json(&s.cursor)?),
        ("fold", json(&s.fold)?),
        ("pending_permission", Value::Null),
        ("pending_elicitation", Value::Null),
        ("offer", json(&s.offer)?),
        ("flow_id", s.flow_id.as_str().into()),
        ("released", KEPT.into()),
    ];
    Ok(update(ws, s, set))
}

/// A value as JSON text for a column.
pub fn json<T: serde::Serialize>(value: &T) -> Result<Value, Error> {
    serde_json::to_string(value).map(Value::from).map_err(Error::internal)
}

/// A pending permission as it is stored.
pub fn permission_value(request: Option<&foundry_proto::common::v1::PermissionRequest>) -> Value {
    request.map_or(Value::Null, |r| r.encode_to_vec().into())
}

/// A pending form as it is stored.
pub fn elicitation_value(request: Option<&foundry_proto::common::v1::ElicitationRequest>) -> Value {
    request.map_or(Value::Null, |r| r.encode_to_vec().into())
}

/// Changes a session that is as it was loaded; anything else is a conflict.
pub fn update(ws: &mut WriteSet, loaded: &Session, set: Set) -> Revs {
    let revs = revs(ws, &loaded.organization_id, &loaded.session_id);
    let set = stamped(set, revs);
    ws.update(&SESSIONS, &[(&loaded.session_id).into()], &set, &[("rev", loaded.rev.into())]);
    revs
}

/// Marks the events of a closed session for deletion. Nothing of that is shown, so there is no new revision.
pub fn release(ws: &mut WriteSet, loaded: &Session) {
    let set = [("released", RELEASED.into())];
    ws.update(&SESSIONS, &[(&loaded.session_id).into()], &set, &[("rev", loaded.rev.into())]);
}

/// The sessions whose events are to be deleted, after an id, in the order of their ids.
pub async fn released(store: &Store, after: &str, limit: u32) -> Result<Vec<SessionId>, Error> {
    const SQL: &str = "SELECT session_id FROM agent_sessions WHERE released = 1 AND session_id > $1 \
         ORDER BY session_id LIMIT $2";
    let rows = store.query(SQL, &[after.into(), limit.into()]).await?;
    rows.iter().map(|r| id(r.text("session_id")?)).collect()
}

/// Notes that no event of a released session is stored any more.
pub fn deleted(ws: &mut WriteSet, session: &SessionId) {
    let set = [("released", DELETED.into()), ("stored_bytes", 0.into())];
    ws.update(&SESSIONS, &[session.into()], &set, &[("released", RELEASED.into())]);
}

/// Changes a session on behalf of its flow; no effect when another flow has taken it over.
pub fn update_as(ws: &mut WriteSet, organization: &OrganizationId, id: &SessionId, flow: &str, set: Set) {
    let revs = revs(ws, organization, id);
    let set = stamped(set, revs);
    ws.update_where(&SESSIONS, &[("session_id", id.into()), ("flow_id", flow.into())], &set);
}

/// The session with this id, in any organization; the caller checks access.
pub async fn find(store: &Store, id: &SessionId) -> Result<Option<Session>, Error> {
    store.query(BY_ID, &[id.into()]).await?.first().map(read).transpose()
}

/// Encoded bytes of the stored events of each task that has any: its organization, its id, and the bytes.
pub async fn stored_bytes(store: &Store) -> Result<Vec<(OrganizationId, String, i64)>, Error> {
    const SQL: &str = "SELECT organization_id, task_id, CAST(SUM(stored_bytes) AS BIGINT) AS stored \
         FROM agent_sessions WHERE stored_bytes > 0 GROUP BY organization_id, task_id";
    let read =
        |r: &Row| Ok((id(r.text("organization_id")?)?, r.text("task_id")?.to_owned(), r.int("stored")?));
    store.query(SQL, &[]).await?.iter().map(read).collect()
}

/// All sessions of a sandbox, also closed ones, those left out that cannot be decoded.
pub async fn of_sandbox(store: &Store, id: &SandboxId) -> Result<Vec<Session>, Error> {
    readable_rows(&store.query(OF_SANDBOX, &[id.into()]).await?, "session_id", read)
}
