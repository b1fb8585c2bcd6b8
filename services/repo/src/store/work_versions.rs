//! Table `work_versions`: the commits of earlier versions of works, with which newer ones are compared.
//!
//! A hand-over may come every few seconds, and a turn may take hours: of each work the newest [`KEPT`] versions are kept, of as
//! many before those every second one, of twice as many before those every fourth one, and so on. They are deleted with
//! their repository.

use foundry_core::{RepositoryId, Result, TaskId, Timestamp};
use foundry_store::{Reader, Table, WriteSet};

pub const WORK_VERSIONS: Table =
    Table::new("work_versions", &["task_id", "version", "commit_id", "import_time"], &["task_id", "version"]);

/// The newest versions of a work, which are all kept.
pub const KEPT: i64 = 50;
/// How often those before are thinned out; beyond the last step none is kept.
const STEPS: u32 = 12;
/// Commits of a repository that a collection of garbage spares, beginning with the newest ones of each work.
const SPARED: i64 = 5_000;

/// Adds a version that replaces an older one, and thins out those before.
pub fn add(ws: &mut WriteSet, (task, before, version): (&TaskId, i64, i64), commit: &str, now: Timestamp) {
    let values = vec![task.as_str().into(), version.into(), commit.into(), now.into()];
    ws.upsert(&WORK_VERSIONS, values);
    for step in 0..=STEPS {
        let age = KEPT << step;
        // Of those that came to this age since the last version, those between the kept ones; the steps before have removed
        // others.
        for old in (before - age).max(1)..=(version - age) {
            if step == STEPS || (old - 1) % (2 << step) == 1 << step {
                ws.remove(&WORK_VERSIONS, &[task.as_str().into(), old.into()]);
            }
        }
    }
}

/// A version and its commit: this one, or the newest before it that is kept; none without such a one.
pub async fn find(from: &impl Reader, task: &TaskId, version: i64) -> Result<Option<(i64, String)>> {
    let sql = "SELECT version, commit_id FROM work_versions WHERE task_id = $1 AND version <= $2 \
               ORDER BY version DESC LIMIT 1";
    let rows = from.query(sql, &[task.as_str().into(), version.into()]).await?;
    rows.first().map(|row| Ok((row.int("version")?, row.text("commit_id")?.to_owned()))).transpose()
}

/// The commits of a repository's versions as far as they are spared, the newest of each work first: works of which nothing
/// new arrives lose theirs no sooner than the others.
pub async fn commits_of(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<String>> {
    let sql = "SELECT commit_id FROM (SELECT v.commit_id, v.import_time, \
               ROW_NUMBER() OVER (PARTITION BY v.task_id ORDER BY v.version DESC) AS age \
               FROM work_versions v JOIN works w ON w.task_id = v.task_id WHERE w.repository_id = $1) AS aged \
               ORDER BY age, import_time DESC LIMIT $2";
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

    async fn added(f: &Fixture, task: &TaskId, before: i64, version: i64) {
        let mut ws = WriteSet::new();
        add(&mut ws, (task, before, version), &format!("c{version}"), f.env.env.clock.now());
        f.cx.store.commit(ws).await.unwrap();
    }

    #[tokio::test]
    async fn keeps_the_newest_versions_and_fewer_of_those_before_also_when_some_were_skipped() {
        let f = Fixture::new().await;
        let (task, other) = (TaskId::generate(&f.env.env), TaskId::generate(&f.env.env));
        for version in (1..=400).filter(|v| *v != 397) {
            added(&f, &task, if version == 398 { 396 } else { version - 1 }, version).await;
        }
        added(&f, &other, 0, 1).await;
        let found = async |task: &TaskId, version| find(&f.cx.store, task, version).await.unwrap().unwrap().0;
        assert_eq!((found(&task, 400).await, found(&task, 351).await), (400, 351));
        assert_eq!(found(&task, 397).await, 396, "it never became readable");
        // Each older version has one not far before it, so that what changed since is a little more, and never less.
        for (asked, most) in [(350, 1), (302, 1), (300, 3), (204, 3), (200, 7), (8, 7), (1, 0)] {
            let kept = found(&task, asked).await;
            assert!(kept <= asked && asked - kept <= most, "{asked}: {kept}");
        }
        let sql = "SELECT COUNT(*) AS n FROM work_versions WHERE task_id = $1";
        let kept = f.cx.store.query(sql, &[task.as_str().into()]).await.unwrap()[0].int("n").unwrap();
        assert!((120..150).contains(&kept), "{kept}");
        assert_eq!(find(&f.cx.store, &other, 1).await.unwrap(), Some((1, "c1".to_owned())));
        let mut ws = WriteSet::new();
        forget_all(&mut ws, task.as_str());
        f.cx.store.commit(ws).await.unwrap();
        assert_eq!(find(&f.cx.store, &task, 400).await.unwrap(), None);
        assert_eq!(found(&other, 5).await, 1);
    }
}
