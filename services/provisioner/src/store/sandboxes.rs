//! Table `sandboxes`: the ledger.

use foundry_core::{Error, OrganizationId, SandboxId};
use foundry_proto::common::v1::Base;
use foundry_sandbox::{ReachedLimit, RuntimeFacts};
use foundry_service::{Stored, damaged_condition, readable_rows, stored_condition};
use foundry_store::{RevRef, Row, Scope, Store, Table, Value, WriteSet};
use prost::Message as _;

use super::stages::select_stages;
use super::{Set, condition_value, id, stages};
use crate::domain::{SANDBOX_STAGES, Sandbox, SandboxState};

/// A row for each sandbox, also destroyed ones.
pub static SANDBOXES: Table = Table::new(
    "sandboxes",
    &[
        "sandbox_id",
        "organization_id",
        "task_id",
        "repository_id",
        "provider",
        "state",
        "condition",
        "branch",
        "base_branch",
        "base_commit",
        "agent",
        "isolation",
        "runtime_instance",
        "facts",
        "flow_id",
        "user_id",
        "create_time",
        "destroy_time",
        "living",
        "work_time",
        "work_head",
        "profile_id",
        "network",
        "existing_branch",
        "rev",
    ],
    &["sandbox_id"],
);

macro_rules! select {
    ($tail:literal) => {
        concat!("SELECT b.*, ", select_stages!("b.sandbox_id"), " FROM sandboxes b ", $tail)
    };
}

const BY_ID: &str = select!("WHERE b.sandbox_id = $1");
const LIVING_OF_TASK: &str = select!("WHERE b.task_id = $1 AND b.living = 1");
const LAST_INSTANCE: &str =
    "SELECT COALESCE(MAX(runtime_instance), 0) AS instance FROM sandboxes WHERE task_id = $1";
const BY_STATE: &str = select!("WHERE b.state = $1");
const LIVING: &str = select!("WHERE b.living = 1");
const LIST: &str = select!(
    "WHERE b.organization_id = $1 AND b.living >= $2 AND b.sandbox_id < $3 ORDER BY b.sandbox_id DESC LIMIT $4"
);
/// For views: rows of an organization by revision.
pub const CHANGED: &str = select!("WHERE b.organization_id = $1 AND b.rev > $2 ORDER BY b.rev LIMIT $3");
/// The same, of one sandbox (`$2`).
pub const CHANGED_ONE: &str =
    select!("WHERE b.organization_id = $1 AND b.sandbox_id = $2 AND b.rev > $3 ORDER BY b.rev LIMIT $4");

/// Reads a row with its stages.
pub fn read(row: &Row) -> Result<Sandbox, Error> {
    stored(row)?.whole()
}

/// The same for lists and watches, which show one that cannot be decoded.
pub fn shown(row: &Row) -> Result<Sandbox, Error> {
    Ok(stored(row)?.shown(|sandbox| sandbox.condition = damaged_condition()))
}

fn stored(row: &Row) -> Result<Stored<Sandbox>, Error> {
    let text = |column| row.text(column).map(str::to_owned);
    Stored::of_parts(|damage| {
        Ok(Sandbox {
            sandbox_id: id(row.text("sandbox_id")?)?,
            organization_id: id(row.text("organization_id")?)?,
            task_id: text("task_id")?,
            repository_id: text("repository_id")?,
            provider: text("provider")?,
            state: SandboxState::parse(row.text("state")?),
            condition: stored_condition(row, "condition", row.text("sandbox_id")?)?,
            branch: text("branch")?,
            base_branch: text("base_branch")?,
            base_commit: text("base_commit")?,
            base: damage.part(row.opt_message("base"))?,
            agent: text("agent")?,
            isolation: text("isolation")?,
            limits: text("limits")?,
            reached: damage.part(row.json("reached_limits"))?,
            runtime_instance: row.int("runtime_instance")?,
            facts: damage.part(row.opt_json("facts"))?,
            flow_id: text("flow_id")?,
            user_id: text("user_id")?,
            create_time: row.time("create_time")?,
            destroy_time: row.opt_time("destroy_time")?,
            work_time: row.time("work_time")?,
            work_head: text("work_head")?,
            work_sent_time: row.time("work_sent_time")?,
            work_notices: damage.part(row.message("work_notices"))?,
            work_not_saved: stored_condition(row, "work_not_saved", row.text("sandbox_id")?)?,
            profile_id: text("profile_id")?,
            network: text("network")?,
            existing_branch: row.bool("existing_branch")?,
            stages: stages::read(row.opt_text("stages")?, &SANDBOX_STAGES)?,
            rev: row.int("rev")?,
        })
    })
}

/// Adds a new sandbox with its stages.
pub fn insert(ws: &mut WriteSet, s: &Sandbox) -> RevRef {
    let rev = ws.scope(Scope::organization(&s.organization_id));
    ws.insert(
        &SANDBOXES,
        [
            (&s.sandbox_id).into(),
            (&s.organization_id).into(),
            s.task_id.as_str().into(),
            s.repository_id.as_str().into(),
            s.provider.as_str().into(),
            s.state.as_str().into(),
            condition_value(&s.condition),
            s.branch.as_str().into(),
            s.base_branch.as_str().into(),
            s.base_commit.as_str().into(),
            s.agent.as_str().into(),
            s.isolation.as_str().into(),
            s.runtime_instance.into(),
            Value::Null,
            s.flow_id.as_str().into(),
            s.user_id.as_str().into(),
            s.create_time.into(),
            Value::Null,
            1.into(),
            s.work_time.into(),
            s.work_head.as_str().into(),
            s.profile_id.as_str().into(),
            s.network.as_str().into(),
            s.existing_branch.into(),
            rev.into(),
        ],
    );
    s.stages.iter().for_each(|stage| stages::put(ws, s.sandbox_id.as_str(), stage));
    rev
}

/// A base as it is stored.
pub fn base_value(base: &Base) -> Value {
    base.encode_to_vec().into()
}

/// The runtime's facts as they are stored.
pub fn facts_value(facts: &RuntimeFacts) -> Result<Value, Error> {
    serde_json::to_vec(facts).map(Value::from).map_err(Error::internal)
}

/// Reached limits as they are stored.
pub fn reached_value(reached: &[ReachedLimit]) -> Result<Value, Error> {
    serde_json::to_string(reached).map(Value::from).map_err(Error::internal)
}

/// Changes a sandbox that is as it was loaded; anything else is a conflict.
pub fn update(ws: &mut WriteSet, loaded: &Sandbox, mut set: Set) -> RevRef {
    let rev = ws.scope(Scope::organization(&loaded.organization_id));
    set.push(("rev", rev.into()));
    ws.update(&SANDBOXES, &[(&loaded.sandbox_id).into()], &set, &[("rev", loaded.rev.into())]);
    rev
}

/// Changes a sandbox on behalf of its flow; no effect when another flow has taken it over.
pub fn update_as(ws: &mut WriteSet, organization: &OrganizationId, id: &str, flow: &str, mut set: Set) {
    let rev = ws.scope(Scope::organization(organization));
    set.push(("rev", rev.into()));
    ws.update_where(&SANDBOXES, &[("sandbox_id", id.into()), ("flow_id", flow.into())], &set);
}

/// Changes what is known about the work in a sandbox, in whatever state it is.
pub fn update_work(ws: &mut WriteSet, organization: &OrganizationId, id: &str, mut set: Set) {
    let rev = ws.scope(Scope::organization(organization));
    set.push(("rev", rev.into()));
    ws.update_where(&SANDBOXES, &[("sandbox_id", id.into())], &set);
}

/// The sandbox with this id, in any organization; the caller checks access.
pub async fn find(store: &Store, id: &SandboxId) -> Result<Option<Sandbox>, Error> {
    store.query(BY_ID, &[id.into()]).await?.first().map(read).transpose()
}

/// The sandbox of a task that is not destroyed, if there is one.
pub async fn find_living(store: &Store, task_id: &str) -> Result<Option<Sandbox>, Error> {
    store.query(LIVING_OF_TASK, &[task_id.into()]).await?.first().map(read).transpose()
}

/// The number of the newest runtime in any of the task's sandboxes; 0 without one.
pub async fn last_instance(store: &Store, task_id: &str) -> Result<i64, Error> {
    let rows = store.query(LAST_INSTANCE, &[task_id.into()]).await?;
    rows.first().map_or(Ok(0), |row| row.int("instance"))
}

/// All sandboxes in a state, those left out that cannot be decoded.
pub async fn in_state(store: &Store, state: SandboxState) -> Result<Vec<Sandbox>, Error> {
    readable_rows(&store.query(BY_STATE, &[state.as_str().into()]).await?, "sandbox_id", read)
}

/// All sandboxes that are not destroyed, those left out that cannot be decoded.
pub async fn living(store: &Store) -> Result<Vec<Sandbox>, Error> {
    readable_rows(&store.query(LIVING, &[]).await?, "sandbox_id", read)
}

/// Sandboxes of an organization before an id, newest first.
pub async fn list(
    store: &Store,
    organization: &OrganizationId,
    destroyed: bool,
    before: &str,
    limit: u32,
) -> Result<Vec<Sandbox>, Error> {
    let least = i64::from(!destroyed);
    let params = [organization.into(), least.into(), before.into(), limit.into()];
    store.query(LIST, &params).await?.iter().map(shown).collect()
}
