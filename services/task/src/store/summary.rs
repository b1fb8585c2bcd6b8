//! Table `summary_rows`: the organization summary, encoded as on the wire.

use bytes::Bytes;
use foundry_core::{OrganizationId, PageRequest, PageToken, Result, TaskId, Timestamp};
use foundry_proto::task::v1::organization_item::Item;
use foundry_proto::task::v1::{OrganizationItem, RepositorySummary, TaskState, TaskSummary};
use foundry_service::{damaged_condition, damaged_name};
use foundry_store::{Reader, RevRef, Row, Snapshot, Store, Table, WriteSet, is_damaged};
use prost::Message as _;

use crate::projection::organization::{SummaryRow, task_key};

pub const SUMMARY: Table = Table::new(
    "summary_rows",
    &["organization_id", "key", "kind", "rev", "listed", "repository_id", "create_time", "item"],
    &["organization_id", "key"],
)
.with_fixed(&["kind", "repository_id", "create_time"]);
/// Rows in one query of all of them.
const AT_A_TIME: u32 = 500;
/// Kind of a repository's tombstone.
pub const REPOSITORY: &str = "summary/repository";

/// All rows by revision, for watches.
pub const BY_REV: &str = "SELECT key, kind, rev, listed, repository_id, create_time, item FROM summary_rows \
     WHERE organization_id = $1 AND rev > $2 ORDER BY rev LIMIT $3";

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
pub async fn task(
    from: &impl Reader,
    organization: &OrganizationId,
    task: &TaskId,
) -> Result<Option<TaskSummary>> {
    const SQL: &str = "SELECT key, kind, repository_id, create_time, item FROM summary_rows \
         WHERE organization_id = $1 AND key = $2";
    let rows = from.query(SQL, &[organization.into(), task_key(task.as_str()).into()]).await?;
    Ok(match rows.first().map(item).transpose()? {
        Some((Item::Task(task), _)) => Some(task),
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
pub async fn listed(snapshot: &Snapshot, organization: &OrganizationId) -> Result<Vec<Item>> {
    const SQL: &str = "SELECT key, kind, repository_id, create_time, item FROM summary_rows \
         WHERE organization_id = $1 AND listed = 1 \
         ORDER BY create_time DESC, key DESC";
    let rows = snapshot.query(SQL, &[organization.into()]).await?;
    rows.iter().map(|r| Ok(item(r)?.0)).collect()
}

/// The item of a row as it is sent.
pub fn shown(row: &Row) -> Result<Bytes> {
    match item(row)? {
        (item, true) => Ok(OrganizationItem { item: Some(item) }.encode_to_vec().into()),
        (_, false) => row.blob("item"),
    }
}

/// The item of a row; with `true`, what stands for one that cannot be decoded.
fn item(row: &Row) -> Result<(Item, bool)> {
    match decoded(row) {
        Ok(item) => Ok((item, false)),
        Err(e) if is_damaged(&e) => Ok((unreadable(row, named(row)?)?, true)),
        Err(e) => Err(e),
    }
}

/// The item of a row, which is of the task or repository that its key names.
///
/// # Errors
/// `STORED_DATA_DAMAGED` when it is not, or cannot be decoded.
pub fn decoded(row: &Row) -> Result<Item> {
    let id = named(row)?;
    row.own_message("item", |stored: OrganizationItem| {
        stored.item.filter(|item| match item {
            Item::Task(task) => task.task_id == id,
            Item::Repository(repository) => repository.repository_id == id,
        })
    })
}

/// The id in the key of a row.
fn named(row: &Row) -> Result<&str> {
    let key = row.text("key")?;
    Ok(key.split_once('/').map_or(key, |(_, id)| id))
}

fn unreadable(row: &Row, id: &str) -> Result<Item> {
    let reason = damaged_condition().reason;
    if row.text("kind")? == "repository" {
        return Ok(Item::Repository(RepositorySummary {
            repository_id: id.to_owned(),
            name: damaged_name(id),
            state: "error".to_owned(),
            reason,
            ..RepositorySummary::default()
        }));
    }
    let created = Some(Timestamp::from_micros(row.int("create_time")?).to_proto());
    Ok(Item::Task(TaskSummary {
        task_id: id.to_owned(),
        repository_id: row.text("repository_id")?.to_owned(),
        title: damaged_name(id),
        state: TaskState::Error.into(),
        reason,
        create_time: created,
        update_time: created,
        ..TaskSummary::default()
    }))
}

const TASKS: &str = "SELECT key, kind, repository_id, create_time, item FROM summary_rows \
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
    let task = |item| if let Item::Task(task) = item { Some(task) } else { None };
    Ok((found.into_iter().filter_map(|(_, (item, _))| task(item)).collect(), next))
}

/// The tasks that lists show as damaged, with what they show.
pub async fn damaged_tasks(store: &Store) -> Result<Vec<(TaskId, TaskSummary)>> {
    const SQL: &str = "SELECT organization_id, key, kind, repository_id, create_time, item FROM summary_rows \
         WHERE kind = 'task' AND listed = 1 AND (organization_id, key) > ($1, $2) \
         ORDER BY organization_id, key LIMIT $3";
    let (reason, mut found) = (damaged_condition().reason, Vec::new());
    let (mut organization, mut key) = (String::new(), String::new());
    loop {
        let after = [organization.as_str().into(), key.as_str().into(), AT_A_TIME.into()];
        let rows = store.query(SQL, &after).await?;
        let Some(last) = rows.last() else { return Ok(found) };
        (organization, key) = (last.text("organization_id")?.to_owned(), last.text("key")?.to_owned());
        for row in &rows {
            if let (Item::Task(task), _) = item(row)?
                && task.reason == reason
            {
                found.push((task.task_id.parse()?, task));
            }
        }
    }
}

fn position(text: &str) -> Option<(i64, String)> {
    let (time, key) = text.split_once('.')?;
    Some((time.parse().ok()?, key.to_owned()))
}
