//! Table `publications`: the last publication of a task's work to each branch. The work itself carries only the newest of
//! all, which is the one that readers see. They are deleted with their repository.

use std::collections::HashSet;

use foundry_core::{RepositoryId, Result, TaskId};
use foundry_proto::common::v1::Publication;
use foundry_service::readable;
use foundry_store::{Reader, Row, Table, WriteSet};
use prost::Message as _;

use crate::domain::work::{TaskWork, Work};

pub const PUBLICATIONS: Table = Table::new(
    "publications",
    &["task_id", "branch", "repository_id", "publication"],
    &["task_id", "branch"],
);

/// What cannot be decoded still shows that the task has published to the branch.
fn read(row: &Row) -> Result<Publication> {
    let branch = row.text("branch")?;
    let mut publication: Publication = readable(row, "publication", branch)?.unwrap_or_default();
    branch.clone_into(&mut publication.branch);
    Ok(publication)
}

/// The last publication of a work to a branch. Older binaries have recorded the newest of all alone, in the work.
pub async fn find(from: &impl Reader, work: &Work, branch: &str) -> Result<Option<Publication>> {
    if let Some(newest) = work.publication.as_ref().filter(|p| p.branch == branch) {
        return Ok(Some(newest.clone()));
    }
    let sql = "SELECT branch, publication FROM publications WHERE task_id = $1 AND branch = $2";
    let rows = from.query(sql, &[work.task_id.as_str().into(), branch.into()]).await?;
    rows.first().map(read).transpose()
}

/// The last publications of a work to all branches.
pub async fn of_work(from: &impl Reader, work: &Work) -> Result<Vec<Publication>> {
    let sql = "SELECT branch, publication FROM publications WHERE task_id = $1 ORDER BY branch";
    let rows = from.query(sql, &[work.task_id.as_str().into()]).await?;
    let mut all = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    if let Some(newest) = &work.publication {
        all.retain(|p| p.branch != newest.branch);
        all.push(newest.clone());
    }
    Ok(all)
}

/// The publications of a repository's works, with their tasks.
pub async fn of_repository(
    from: &impl Reader,
    repository: &RepositoryId,
) -> Result<Vec<(TaskId, Publication)>> {
    let sql = "SELECT task_id, branch, publication FROM publications WHERE repository_id = $1 ORDER BY task_id, branch";
    let rows = from.query(sql, &[repository.as_str().into()]).await?;
    rows.iter().map(|row| Ok((row.text("task_id")?.parse()?, read(row)?))).collect()
}

/// To which branches the tasks of a repository have published, as pairs of both.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn branches_of_tasks(
    from: &impl Reader,
    repository: &RepositoryId,
    works: &[TaskWork],
) -> Result<HashSet<(String, String)>> {
    let sql = "SELECT task_id, branch FROM publications WHERE repository_id = $1";
    let rows = from.query(sql, &[repository.as_str().into()]).await?;
    let both = |row: &Row| Ok((row.text("task_id")?.to_owned(), row.text("branch")?.to_owned()));
    let mut all = rows.iter().map(both).collect::<Result<HashSet<_>>>()?;
    // One of an older binary is known by the work alone.
    all.extend(works.iter().map(|w| (w.task_id.clone(), w.published_to.clone())));
    Ok(all)
}

/// Records the last publication of a task to its branch.
pub fn put(ws: &mut WriteSet, (task, repository): (&TaskId, &RepositoryId), publication: &Publication) {
    let values = vec![
        task.as_str().into(),
        publication.branch.as_str().into(),
        repository.as_str().into(),
        publication.encode_to_vec().into(),
    ];
    ws.upsert(&PUBLICATIONS, values);
}
