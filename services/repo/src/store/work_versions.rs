//! Table `work_versions`: the commits of earlier versions of works, with which newer ones are compared.
//!
//! Of each work the newest [`KEPT`] are kept; the import of a version removes those before. They are deleted with their
//! repository.

use foundry_core::{RepositoryId, Result, TaskId, Timestamp};
use foundry_store::{Reader, Table, WriteSet};

pub const WORK_VERSIONS: Table =
    Table::new("work_versions", &["task_id", "version", "commit_id", "import_time"], &["task_id", "version"]);

/// Versions of a work that are kept.
pub const KEPT: i64 = 50;
/// Commits of a repository that a collection of garbage spares; beyond that, the oldest may go.
const SPARED: i64 = 2_000;

/// Adds a version that replaces an older one, and removes those that are too old by then.
pub fn add(ws: &mut WriteSet, (task, before, version): (&TaskId, i64, i64), commit: &str, now: Timestamp) {
    let values = vec![task.as_str().into(), version.into(), commit.into(), now.into()];
    ws.upsert(&WORK_VERSIONS, values);
    for old in (before - KEPT).max(0)..=(version - KEPT) {
        ws.remove(&WORK_VERSIONS, &[task.as_str().into(), old.into()]);
    }
}

/// The commit of a version; none if it is not kept, or never became readable.
pub async fn find(from: &impl Reader, task: &TaskId, version: i64) -> Result<Option<String>> {
    let sql = "SELECT commit_id FROM work_versions WHERE task_id = $1 AND version = $2";
    let rows = from.query(sql, &[task.as_str().into(), version.into()]).await?;
    rows.first().map(|row| Ok(row.text("commit_id")?.to_owned())).transpose()
}

/// The commits of a repository's versions, the newest first, as far as they are spared.
pub async fn commits_of(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<String>> {
    let sql = "SELECT v.commit_id FROM work_versions v JOIN works w ON w.task_id = v.task_id \
               WHERE w.repository_id = $1 ORDER BY v.import_time DESC LIMIT $2";
    let rows = from.query(sql, &[repository.as_str().into(), SPARED.into()]).await?;
    rows.iter().map(|row| Ok(row.text("commit_id")?.to_owned())).collect()
}

/// Removes the versions of a task.
pub fn forget_all(ws: &mut WriteSet, task: &str) {
    ws.delete_where(&WORK_VERSIONS, &[("task_id", task.into())]);
}

#[cfg(test)]
mod tests {
    use foundry_store::WriteSet;

    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn keeps_the_newest_fifty_versions_also_when_some_were_skipped() {
        let f = Fixture::new().await;
        let (task, other) = (TaskId::generate(&f.env.env), TaskId::generate(&f.env.env));
        let mut before = 0;
        for version in [1, 2, 3, 4, 52, 53, 60] {
            let mut ws = WriteSet::new();
            add(&mut ws, (&task, before, version), &format!("c{version}"), f.env.env.clock.now());
            f.cx.store.commit(ws).await.unwrap();
            before = version;
        }
        let mut ws = WriteSet::new();
        add(&mut ws, (&other, 0, 1), "other", f.env.env.clock.now());
        f.cx.store.commit(ws).await.unwrap();
        let found = async |task: &TaskId, version| find(&f.cx.store, task, version).await.unwrap();
        for gone in 1..=10 {
            assert_eq!(found(&task, gone).await, None, "{gone}");
        }
        assert_eq!(found(&task, 52).await.as_deref(), Some("c52"));
        assert_eq!(found(&other, 1).await.as_deref(), Some("other"));
        let mut ws = WriteSet::new();
        forget_all(&mut ws, task.as_str());
        f.cx.store.commit(ws).await.unwrap();
        assert_eq!((found(&task, 60).await, found(&other, 1).await.is_some()), (None, true));
    }
}
