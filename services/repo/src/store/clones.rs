//! Table `clones`: the sandboxes that have been given a clone of a repository and are not destroyed yet.

use foundry_core::{RepositoryId, Result, SandboxId, TaskId};
use foundry_store::{Reader, Table, WriteSet};

use super::repositories::REPOSITORIES;
use crate::domain::repository::Repository;

pub const CLONES: Table = Table::new(
    "clones",
    &["sandbox_id", "task_id", "repository_id", "base_commit", "existing_branch"],
    &["sandbox_id"],
);

/// The commit from which a sandbox starts that is recorded with a clone of this repository.
pub async fn held(
    from: &impl Reader,
    sandbox: &SandboxId,
    repository: &RepositoryId,
) -> Result<Option<String>> {
    const SQL: &str = "SELECT base_commit FROM clones WHERE sandbox_id = $1 AND repository_id = $2";
    let rows = from.query(SQL, &[sandbox.as_str().into(), repository.as_str().into()]).await?;
    rows.first().map(|row| Ok(row.text("base_commit")?.to_owned())).transpose()
}

/// The commits from which the tasks with a clone of the repository start.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn bases_of(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<String>> {
    const SQL: &str =
        "SELECT DISTINCT base_commit FROM clones WHERE repository_id = $1 AND base_commit <> ''";
    let rows = from.query(SQL, &[repository.as_str().into()]).await?;
    rows.iter().map(|row| Ok(row.text("base_commit")?.to_owned())).collect()
}

/// Ids of the tasks that have a sandbox with a clone of the repository, oldest task first.
pub async fn tasks_of(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<String>> {
    const SQL: &str = "SELECT DISTINCT task_id FROM clones WHERE repository_id = $1 ORDER BY task_id";
    let rows = from.query(SQL, &[repository.as_str().into()]).await?;
    rows.iter().map(|row| Ok(row.text("task_id")?.to_owned())).collect()
}

/// What [`hold`] last wrote to the row of a repository; read it before [`tasks_of`].
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn mark(from: &impl Reader, repository: &RepositoryId) -> Result<String> {
    const SQL: &str = "SELECT clone_mark FROM repositories WHERE repository_id = $1";
    let rows = from.query(SQL, &[repository.as_str().into()]).await?;
    rows.first().map_or(Ok(String::new()), |row| Ok(row.text("clone_mark")?.to_owned()))
}

/// The branches of the remote that tasks with a sandbox work on, and these tasks, the oldest first.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn worked_on(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<(String, String)>> {
    const SQL: &str = "SELECT DISTINCT existing_branch, task_id FROM clones \
         WHERE repository_id = $1 AND existing_branch <> '' ORDER BY task_id";
    let rows = from.query(SQL, &[repository.as_str().into()]).await?;
    let both = |row: &foundry_store::Row| {
        Ok((row.text("existing_branch")?.to_owned(), row.text("task_id")?.to_owned()))
    };
    rows.iter().map(both).collect()
}

/// The oldest other task with a sandbox whose branch this is: it works on it, or made it; none if there is none.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn owner(
    from: &impl Reader,
    repository: &RepositoryId,
    branch: &str,
    other_than: &TaskId,
) -> Result<Option<String>> {
    const SQL: &str = "SELECT c.task_id AS task_id FROM clones c LEFT JOIN works w ON w.task_id = c.task_id \
         WHERE c.repository_id = $1 AND c.task_id <> $2 AND (c.existing_branch = $3 OR w.branch = $3) \
         ORDER BY c.task_id LIMIT 1";
    let params = [repository.as_str().into(), other_than.as_str().into(), branch.into()];
    let rows = from.query(SQL, &params).await?;
    rows.first().map(|row| Ok(row.text("task_id")?.to_owned())).transpose()
}

/// The repository in which a sandbox works on a branch of the remote; none if it does not.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn works_in(from: &impl Reader, sandbox: &SandboxId) -> Result<Option<RepositoryId>> {
    const SQL: &str = "SELECT repository_id FROM clones WHERE sandbox_id = $1 AND existing_branch <> ''";
    let rows = from.query(SQL, &[sandbox.as_str().into()]).await?;
    rows.first().map(|row| row.text("repository_id")?.parse()).transpose()
}

/// Records that a sandbox of the task is given a clone, which starts from this commit, and the branch of the remote that it
/// works on, or an empty name; fails if the repository has changed
/// its state since it was read. It writes the row of the repository too: on PostgreSQL, two transactions that only read
/// what the other one writes would both succeed.
pub fn hold(
    ws: &mut WriteSet,
    (sandbox, task): (&SandboxId, &TaskId),
    repository: &Repository,
    (base, existing_branch): (&str, &str),
) {
    let id = repository.repository_id.as_str();
    let guards = [("state", repository.state.as_str().into())];
    ws.update(&REPOSITORIES, &[id.into()], &[("clone_mark", sandbox.as_str().into())], &guards);
    let (sandbox, task) = (sandbox.as_str().into(), task.as_str().into());
    ws.upsert(&CLONES, vec![sandbox, task, id.into(), base.into(), existing_branch.into()]);
}

/// Fails the write set if a sandbox was given a clone of the repository since its mark was read.
pub fn none_since(ws: &mut WriteSet, repository: &RepositoryId, mark: &str) {
    let (set, guards) = ([("clone_mark", "".into())], [("clone_mark", mark.into())]);
    ws.update(&REPOSITORIES, &[repository.as_str().into()], &set, &guards);
}
