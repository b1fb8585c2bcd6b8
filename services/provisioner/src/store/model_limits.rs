//! Table `model_limits`.

use foundry_core::{Error, OrganizationId};
use foundry_store::{Row, Store, Table, Value, WriteSet};

use crate::domain::model_limit::{LimitOf, ModelLimit, Unit};

/// A row for each limit on the use of models, by organization, scope, task and unit.
pub static MODEL_LIMITS: Table = Table::new(
    "model_limits",
    &["organization_id", "scope", "task_id", "unit", "maximum"],
    &["organization_id", "scope", "task_id", "unit"],
);

const FOR_TASK: &str = "SELECT * FROM model_limits WHERE organization_id = $1 AND (task_id = '' OR task_id = $2) \
     ORDER BY scope, task_id, unit";
const ALL: &str =
    "SELECT * FROM model_limits WHERE organization_id = $1 ORDER BY scope, task_id, unit LIMIT 500";

fn read(row: &Row) -> Result<ModelLimit, Error> {
    Ok(ModelLimit {
        of: LimitOf::parse(row.text("scope")?, row.text("task_id")?),
        unit: Unit::parse(row.text("unit")?),
        maximum: row.int("maximum")?,
    })
}

fn key(organization: &OrganizationId, limit: &ModelLimit) -> [Value; 4] {
    let (scope, task) = limit.of.as_str();
    [organization.into(), scope.into(), task.into(), limit.unit.as_str().into()]
}

/// Sets a limit.
pub fn put(ws: &mut WriteSet, organization: &OrganizationId, limit: &ModelLimit) {
    let row: Vec<Value> = key(organization, limit).into_iter().chain([limit.maximum.into()]).collect();
    ws.upsert(&MODEL_LIMITS, row);
}

/// Removes a limit; nothing happens when there is none.
pub fn remove(ws: &mut WriteSet, organization: &OrganizationId, limit: &ModelLimit) {
    ws.remove(&MODEL_LIMITS, &key(organization, limit));
}

/// All limits of an organization, or those that may apply to a task.
pub async fn list(
    store: &Store,
    organization: &OrganizationId,
    task: &str,
) -> Result<Vec<ModelLimit>, Error> {
    let rows = match task {
        "" => store.query(ALL, &[organization.into()]).await?,
        task => store.query(FOR_TASK, &[organization.into(), task.into()]).await?,
    };
    rows.iter().map(read).collect()
}
