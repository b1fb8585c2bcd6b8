//! Table `pull_requests`: the pull request of each branch that has one, as last read. One that has ended goes when it is
//! read again, unless a task has published its branch; all go with the repository.

use foundry_core::{OrganizationId, RepositoryId, Result};
use foundry_proto::common::v1::PullRequest;
use foundry_service::readable;
use foundry_store::{Reader, RevRef, Row, Table, WriteSet, is_damaged};
use prost::Message as _;

use crate::domain::pull_request::Kept;
use crate::store::branch_overviews::BRANCH_OVERVIEWS;

pub const PULL_REQUESTS: Table = Table::new(
    "pull_requests",
    &["repository_id", "branch", "organization_id", "number", "pull_request", "known"],
    &["repository_id", "branch"],
);

/// A pull request of a branch, with what the next reading needs.
#[derive(Clone, Debug, PartialEq)]
pub struct PullRow {
    /// As callers see it; its branch is the key.
    pub pull_request: PullRequest,
    /// What makes the next reading cheap.
    pub kept: Kept,
}

fn read(row: &Row) -> Result<PullRow> {
    let branch = row.text("branch")?;
    let mut pull_request: PullRequest = readable(row, "pull_request", branch)?.unwrap_or_default();
    branch.clone_into(&mut pull_request.branch);
    pull_request.number = row.int("number")?;
    let kept = match row.json("known") {
        Err(e) if is_damaged(&e) => Kept::default(),
        read => read?,
    };
    Ok(PullRow { pull_request, kept })
}

/// All of a repository.
pub async fn all(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<PullRow>> {
    let sql = "SELECT branch, number, pull_request, known FROM pull_requests WHERE repository_id = $1 ORDER BY branch";
    from.query(sql, &[repository.as_str().into()]).await?.iter().map(read).collect()
}

/// The one of a branch.
pub async fn find(from: &impl Reader, repository: &RepositoryId, branch: &str) -> Result<Option<PullRow>> {
    let sql = "SELECT branch, number, pull_request, known FROM pull_requests \
               WHERE repository_id = $1 AND branch = $2";
    from.query(sql, &[repository.as_str().into(), branch.into()]).await?.first().map(read).transpose()
}

/// Adds or replaces one, and shows it beside its branch.
pub fn put(
    ws: &mut WriteSet,
    rev: RevRef,
    (organization, repository): (&OrganizationId, &RepositoryId),
    row: &PullRow,
) -> Result<()> {
    let branch = row.pull_request.branch.as_str();
    let known = serde_json::to_string(&row.kept).map_err(foundry_core::Error::internal)?;
    let values = vec![
        repository.as_str().into(),
        branch.into(),
        organization.as_str().into(),
        row.pull_request.number.into(),
        row.pull_request.encode_to_vec().into(),
        known.into(),
    ];
    ws.upsert(&PULL_REQUESTS, values);
    show(ws, rev, repository, branch);
    Ok(())
}

/// Replaces what the next reading needs of one that is shown as before.
pub fn keep(ws: &mut WriteSet, repository: &RepositoryId, row: &PullRow) -> Result<()> {
    let known = serde_json::to_string(&row.kept).map_err(foundry_core::Error::internal)?;
    let branch = row.pull_request.branch.as_str();
    let key = [("repository_id", repository.as_str().into()), ("branch", branch.into())];
    ws.update_where(&PULL_REQUESTS, &key, &[("known", known.into())]);
    Ok(())
}

/// Removes the pull request of a branch, as once it has ended; the branch is shown without it.
pub fn remove(ws: &mut WriteSet, rev: RevRef, repository: &RepositoryId, branch: &str) {
    ws.remove(&PULL_REQUESTS, &[repository.as_str().into(), branch.into()]);
    show(ws, rev, repository, branch);
}

fn show(ws: &mut WriteSet, rev: RevRef, repository: &RepositoryId, branch: &str) {
    let key = [("repository_id", repository.as_str().into()), ("name", branch.into())];
    ws.update_where(&BRANCH_OVERVIEWS, &key, &[("rev", rev.into())]);
}
