//! Table `clones`: the sandboxes that have been given a clone of a repository and are not destroyed yet.

use foundry_core::{RepositoryId, Result, SandboxId, TaskId};
use foundry_store::{Reader, Table, WriteSet};

pub const CLONES: Table = Table::new("clones", &["sandbox_id", "task_id", "repository_id"], &["sandbox_id"]);

/// Whether a sandbox is recorded with a clone of this repository.
pub async fn is_held(from: &impl Reader, sandbox: &SandboxId, repository: &RepositoryId) -> Result<bool> {
    const SQL: &str = "SELECT sandbox_id FROM clones WHERE sandbox_id = $1 AND repository_id = $2";
    let rows = from.query(SQL, &[sandbox.as_str().into(), repository.as_str().into()]).await?;
    Ok(!rows.is_empty())
}

/// Ids of the tasks that have a sandbox with a clone of the repository, oldest task first.
pub async fn tasks_of(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<String>> {
    const SQL: &str = "SELECT DISTINCT task_id FROM clones WHERE repository_id = $1 ORDER BY task_id";
    let rows = from.query(SQL, &[repository.as_str().into()]).await?;
    rows.iter().map(|row| Ok(row.text("task_id")?.to_owned())).collect()
}

/// Records that a sandbox of the task is given a clone.
pub fn hold(ws: &mut WriteSet, sandbox: &SandboxId, task: &TaskId, repository: &RepositoryId) {
    ws.upsert(&CLONES, vec![sandbox.as_str().into(), task.as_str().into(), repository.as_str().into()]);
}
