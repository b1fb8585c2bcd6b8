//! Table `summary_rows`: the organization summary, encoded as on the wire.

use foundry_core::{Error, OrganizationId, PageRequest, PageToken, Result, TaskId};
use foundry_proto::task::v1::organization_item::Item;
use foundry_proto::task::v1::{OrganizationItem, TaskSummary};
use foundry_store::{RevRef, Row, Snapshot, Store, Table, WriteSet};
use prost::Message as _;

use crate::projection::organization::{SummaryRow, task_key};

pub const SUMMARY: Table = Table::new(
    "summary_rows",
    &["organization_id", "key", "kind", "rev", "listed", "repository_id", "create_time", "item"],
    &["organization_id", "key"],
);
/// Kind of a repository's tombstone.
pub const REPOSITORY: &str = "summary/repository";

/// All rows by revision, for watches.
pub const BY_REV: &str = "SELECT key, rev, listed, item FROM summary_rows WHERE organization_id = $1 AND rev > $2 ORDER BY rev LIMIT $3";

/// Writes a row.
pub fn put(ws: &mut WriteSet, rev: RevRef, organization: &OrganizationId, row: &SummaryRow) {
    let values = [
        organization.into(),
        row.key.as_str().into(),
        row.kind.into(),
        rev.into(),
        row.listed.into(),
        row.repository_id.as_str().into(),
        row.create_time.into(),
        row.item.encode_to_vec().into(),
    ];
    ws.upsert(&SUMMARY, values);
}

/// What lists show of a task.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn task(
    store: &Store,
    organization: &OrganizationId,
    task: &TaskId,
) -> Result<Option<TaskSummary>> {
    const SQL: &str = "SELECT item FROM summary_rows WHERE organization_id = $1 AND key = $2";
    let rows = store.query(SQL, &[organization.into(), task_key(task.as_str()).into()]).await?;
    Ok(match rows.first().map(item).transpose()?.flatten() {
        Some(Item::Task(task)) => Some(task),
        _ => None,
    })
}

/// Writes what is shown of a task that lists have already; which lists those are stays.
pub fn update_task(ws: &mut WriteSet, rev: RevRef, organization: &OrganizationId, task: TaskSummary) {
    let key = task_key(&task.task_id);
    let item = OrganizationItem { item: Some(Item::Task(task)) };
    let set = [("rev", rev.into()), ("item", item.encode_to_vec().into())];
    ws.update(&SUMMARY, &[organization.into(), key.into()], &set, &[]);
}

/// All rows that lists show, tasks newest first.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn listed(snapshot: &Snapshot, organization: &OrganizationId) -> Result<Vec<Item>> {
    const SQL: &str = "SELECT item FROM summary_rows WHERE organization_id = $1 AND listed = 1 \
         ORDER BY create_time DESC, key DESC";
    let rows = snapshot.query(SQL, &[organization.into()]).await?;
    rows.iter().filter_map(|r| item(r).transpose()).collect()
}

fn item(row: &Row) -> Result<Option<Item>> {
    Ok(OrganizationItem::decode(row.blob("item")?).map_err(Error::internal)?.item)
}

const TASKS: &str = "SELECT key, create_time, item FROM summary_rows \
     WHERE organization_id = $1 AND kind = 'task' AND (create_time, key) < ($2, $3) \
     AND ($4 = '' OR repository_id = $4) AND (listed = 1 OR $5 = 1) \
     ORDER BY create_time DESC, key DESC LIMIT $6";

/// A page of tasks, newest first.
///
/// # Errors
/// `INVALID_ARGUMENT` for a page token of another list.
pub async fn tasks(
    store: &Store,
    organization: &OrganizationId,
    repository: &str,
    ended_too: bool,
    page: &PageRequest,
) -> Result<(Vec<TaskSummary>, Option<PageToken>)> {
    let (time, key) = page.begins_after((i64::MAX, String::new()), position)?;
    let params = [
        organization.into(),
        time.into(),
        key.into(),
        repository.into(),
        ended_too.into(),
        page.limit().into(),
    ];
    let rows = store.query(TASKS, &params).await?;
    let placed = |row: &Row| Ok((format!("{}.{}", row.int("create_time")?, row.text("key")?), item(row)?));
    let found = rows.iter().map(placed).collect::<Result<Vec<_>>>()?;
    let (found, next) = page.cut(found, |(position, _)| position.clone());
    let task = |item| if let Some(Item::Task(task)) = item { Some(task) } else { None };
    Ok((found.into_iter().filter_map(|(_, item)| task(item)).collect(), next))
}

fn position(text: &str) -> Option<(i64, String)> {
    let (time, key) = text.split_once('.')?;
    Some((time.parse().ok()?, key.to_owned()))
}
