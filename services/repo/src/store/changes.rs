//! Tables `work_changes` and `work_whole_changes`: the changed files of each version of a work, with their patches.

use bytes::Bytes;
use foundry_core::{Error, PageRequest, PageToken, Result, TaskId};
use foundry_proto::repo::v1::{FileChange, FileChangeKind};
use foundry_store::{Row, Snapshot, Table, WriteSet, is_damaged};
use prost::Message as _;

use crate::domain::work::Work;

pub const WORK_CHANGES: Table = Table::new(
    "work_changes",
    &["task_id", "version", "path", "position", "change", "patch"],
    &["task_id", "version", "path"],
);

/// All files that differ from the base, for a work that has merged other branches.
pub const WORK_WHOLE_CHANGES: Table = Table::new(
    "work_whole_changes",
    &["task_id", "version", "path", "position", "change", "patch"],
    &["task_id", "version", "path"],
);

/// What a work is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The base with what was merged from other branches: what is left is the work's own.
    Merged,
    /// The base alone.
    Base,
}

impl Against {
    /// The comparison that a caller asks for; both are the same for a work that has merged nothing.
    pub fn of(work: &Work, whole: bool) -> Self {
        if whole && !work.merged_from.is_empty() { Self::Base } else { Self::Merged }
    }

    fn table(self) -> &'static Table {
        match self {
            Self::Merged => &WORK_CHANGES,
            Self::Base => &WORK_WHOLE_CHANGES,
        }
    }
}

/// One that cannot be decoded is shown with its path alone.
fn change(row: &Row) -> Result<FileChange> {
    let path = row.text("path")?;
    let unreadable = || FileChange {
        path: path.to_owned(),
        kind: FileChangeKind::Modified.into(),
        ..FileChange::default()
    };
    match decoded(row) {
        Err(e) if is_damaged(&e) => Ok(unreadable()),
        read => read,
    }
}

/// The change in a row, which is of the path that the row names.
///
/// # Errors
/// `STORED_DATA_DAMAGED` when it is not, or cannot be decoded.
pub fn decoded(row: &Row) -> Result<FileChange> {
    let path = row.text("path")?;
    row.own_message("change", |change: FileChange| (change.path == path).then_some(change))
}

/// The error for a version that a newer one has replaced.
pub fn replaced(task: &TaskId, asked: i64, version: i64) -> Error {
    let message = format!("version {asked} was replaced by version {version}");
    Error::precondition("WORK_CHANGED", task.as_str(), message).next_action("reload the list of changes")
}

/// Parses a page token: the version, and the position of the last file on the page.
fn position(text: &str) -> Option<(i64, i64)> {
    let (version, position) = text.split_once(':')?;
    Some((version.parse().ok()?, position.parse().ok()?))
}

/// Changed files of a version, in the order in which their patches apply. `moment` must be the snapshot in which the
/// version was read, as the commit of the next version deletes these files.
///
/// # Errors
/// `INTERNAL` when the database fails, `INVALID_ARGUMENT` for a foreign page token, `WORK_CHANGED` for one of another
/// version.
pub async fn list(
    moment: &Snapshot,
    against: Against,
    task: &TaskId,
    version: i64,
    page: &PageRequest,
) -> Result<(Vec<FileChange>, Option<PageToken>)> {
    let (of, after) = page.begins_after((version, -1), position)?;
    if of != version {
        return Err(replaced(task, of, version));
    }
    let sql = match against {
        Against::Merged => {
            "SELECT path, position, change FROM work_changes \
             WHERE task_id = $1 AND version = $2 AND position > $3 ORDER BY position LIMIT $4"
        }
        Against::Base => {
            "SELECT path, position, change FROM work_whole_changes \
             WHERE task_id = $1 AND version = $2 AND position > $3 ORDER BY position LIMIT $4"
        }
    };
    let params = [task.as_str().into(), version.into(), after.into(), page.limit().into()];
    let rows = moment.query(sql, &params).await?;
    let found =
        rows.iter().map(|row| Ok((row.int("position")?, change(row)?))).collect::<Result<Vec<_>>>()?;
    let (found, next) = page.cut(found, |(position, _)| format!("{version}:{position}"));
    Ok((found.into_iter().map(|(_, change)| change).collect(), next))
}

/// One changed file with its patch; `moment` as for [`list`].
pub async fn find(
    moment: &Snapshot,
    against: Against,
    task: &TaskId,
    version: i64,
    path: &str,
) -> Result<Option<(FileChange, Bytes)>> {
    let sql = match against {
        Against::Merged => {
            "SELECT path, change, patch FROM work_changes WHERE task_id = $1 AND version = $2 AND path = $3"
        }
        Against::Base => {
            "SELECT path, change, patch FROM work_whole_changes \
             WHERE task_id = $1 AND version = $2 AND path = $3"
        }
    };
    let rows = moment.query(sql, &[task.as_str().into(), version.into(), path.into()]).await?;
    rows.first().map(|row| Ok((change(row)?, row.blob("patch")?))).transpose()
}

/// Adds a changed file at its position; adding it again changes nothing.
pub fn put(
    ws: &mut WriteSet,
    against: Against,
    (task, version): (&TaskId, i64),
    position: i64,
    (change, patch): (&FileChange, Bytes),
) {
    let values = vec![
        task.as_str().into(),
        version.into(),
        change.path.as_str().into(),
        position.into(),
        change.encode_to_vec().into(),
        patch.into(),
    ];
    ws.upsert(against.table(), values);
}

/// Removes the changed files of a version.
pub fn forget(ws: &mut WriteSet, task: &TaskId, version: i64) {
    for table in [&WORK_CHANGES, &WORK_WHOLE_CHANGES] {
        ws.delete_where(table, &[("task_id", task.as_str().into()), ("version", version.into())]);
    }
}

/// Removes the changed files of a task.
pub fn forget_all(ws: &mut WriteSet, task: &str) {
    for table in [&WORK_CHANGES, &WORK_WHOLE_CHANGES] {
        ws.delete_where(table, &[("task_id", task.into())]);
    }
}
