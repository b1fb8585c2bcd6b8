//! Table `work_changes`: the changed files of each version of a work, with their patches.

use bytes::Bytes;
use foundry_core::{Error, PageRequest, PageToken, Result, TaskId};
use foundry_proto::repo::v1::FileChange;
use foundry_store::{Row, Store, Table, WriteSet};
use prost::Message as _;

/// The table.
pub const WORK_CHANGES: Table = Table::new(
    "work_changes",
    &["task_id", "version", "path", "position", "change", "patch"],
    &["task_id", "version", "path"],
);

fn change(row: &Row) -> Result<FileChange> {
    FileChange::decode(row.blob("change")?).map_err(Error::internal)
}

/// Changed files of a version, in the order in which their patches apply.
///
/// # Errors
/// `INTERNAL` when the database fails, `INVALID_ARGUMENT` for a foreign page token.
pub async fn list(
    store: &Store,
    task: &TaskId,
    version: i64,
    page: &PageRequest,
) -> Result<(Vec<FileChange>, Option<PageToken>)> {
    let after = match &page.after {
        None => -1,
        Some(token) => token
            .0
            .parse::<i64>()
            .map_err(|_| Error::invalid_field("page_token", "is not a token of an earlier answer"))?,
    };
    let sql = "SELECT position, change FROM work_changes \
               WHERE task_id = $1 AND version = $2 AND position > $3 ORDER BY position LIMIT $4";
    let params = [task.as_str().into(), version.into(), after.into(), i64::from(page.size + 1).into()];
    let rows = store.query(sql, &params).await?;
    let size = page.size as usize;
    let found = rows.iter().take(size).map(change).collect::<Result<Vec<_>>>()?;
    let next = match rows.get(size.wrapping_sub(1)) {
        Some(last) if rows.len() > size => Some(PageToken(last.int("position")?.to_string())),
        _ => None,
    };
    Ok((found, next))
}

/// One changed file with its patch.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn find(
    store: &Store,
    task: &TaskId,
    version: i64,
    path: &str,
) -> Result<Option<(FileChange, Bytes)>> {
    let sql = "SELECT change, patch FROM work_changes WHERE task_id = $1 AND version = $2 AND path = $3";
    let rows = store.query(sql, &[task.as_str().into(), version.into(), path.into()]).await?;
    rows.first().map(|row| Ok((change(row)?, row.blob("patch")?))).transpose()
}

/// Adds a changed file; repeating it changes nothing.
pub fn put(ws: &mut WriteSet, task: &TaskId, version: i64, position: i64, change: &FileChange, patch: Bytes) {
    let values = vec![
        task.as_str().into(),
        version.into(),
        change.path.as_str().into(),
        position.into(),
        change.encode_to_vec().into(),
        patch.into(),
    ];
    ws.upsert(&WORK_CHANGES, values);
}

/// Forgets a version.
pub fn forget(ws: &mut WriteSet, task: &TaskId, version: i64) {
    ws.delete_where(&WORK_CHANGES, &[("task_id", task.as_str().into()), ("version", version.into())]);
}
