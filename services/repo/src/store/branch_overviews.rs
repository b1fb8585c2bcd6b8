//! Table `branch_overviews`: the branches of each repository with their places in their stacks, as last computed. A row
//! goes with its branch, and all with the repository.

use std::collections::HashMap;

use foundry_core::{OrganizationId, PageRequest, PageToken, RepositoryId, Result};
use foundry_git::CommitId;
use foundry_proto::common::v1::{Condition, PullRequest};
use foundry_proto::repo::v1::BranchOverview;
use foundry_store::{Reader, RevRef, Row, Store, Table, WriteSet, is_damaged};
use prost::Message as _;

use crate::domain::pull_request::brief;

pub const BRANCH_OVERVIEWS: Table = Table::new(
    "branch_overviews",
    &["repository_id", "name", "organization_id", "rev", "inputs", "parent", "fork", "overview"],
    &["repository_id", "name"],
);

/// Rows of a repository by revision, for watches.
pub const BY_REV: &str = "SELECT b.name AS name, b.rev AS rev, b.overview AS overview, p.pull_request AS pull_request \
                          FROM branch_overviews b LEFT JOIN pull_requests p \
                          ON p.repository_id = b.repository_id AND p.branch = b.name \
                          WHERE b.organization_id = $1 AND b.repository_id = $2 AND b.rev > $3 ORDER BY b.rev LIMIT $4";

/// Kind of the tombstones of a repository's branches.
pub fn kind(repository: &RepositoryId) -> String {
    format!("branch/{repository}")
}

/// What a row was computed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// Everything that decides what it shows.
    pub inputs: String,
    /// Name of its parent; empty = none.
    pub parent: String,
    /// The newest commit that it had in common with the parent; empty = none.
    pub fork: String,
}

/// The overview in a row, which is of the branch that the row names.
///
/// # Errors
/// `STORED_DATA_DAMAGED` when it is not, or cannot be decoded.
pub fn decoded(row: &Row) -> Result<BranchOverview> {
    let name = row.text("name")?;
    row.own_message("overview", |branch: BranchOverview| (branch.name == name).then_some(branch))
}

/// A row as callers see it; one that cannot be decoded is shown with its name alone.
pub fn read(row: &Row) -> Result<BranchOverview> {
    match decoded(row) {
        Err(e) if is_damaged(&e) => Ok(BranchOverview {
            name: row.text("name")?.to_owned(),
            left_out: Some(Condition {
                reason: e.reason().to_owned(),
                message: "what is stored about this branch cannot be read".to_owned(),
                ..Condition::default()
            }),
            ..BranchOverview::default()
        }),
        read => Ok(BranchOverview { pull_request: pull_request(row)?, ..read? }),
    }
}

/// The pull request beside a branch; one that cannot be decoded is left out until it is read again.
fn pull_request(row: &Row) -> Result<Option<PullRequest>> {
    match row.opt_message("pull_request") {
        Err(e) if is_damaged(&e) => Ok(None),
        read => Ok(read?.map(brief)),
    }
}

/// The name of the branch that a branch stands on; empty = none, or not known.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn parent(from: &impl Reader, repository: &RepositoryId, name: &str) -> Result<String> {
    let sql = "SELECT parent FROM branch_overviews WHERE repository_id = $1 AND name = $2";
    let rows = from.query(sql, &[repository.as_str().into(), name.into()]).await?;
    rows.first().map_or(Ok(String::new()), |row| Ok(row.text("parent")?.to_owned()))
}

/// A page of a repository's branches, sorted by name.
pub async fn list(
    store: &Store,
    repository: &RepositoryId,
    page: &PageRequest,
) -> Result<(Vec<BranchOverview>, Option<PageToken>)> {
    let sql = "SELECT b.name AS name, b.overview AS overview, p.pull_request AS pull_request FROM branch_overviews b \
               LEFT JOIN pull_requests p ON p.repository_id = b.repository_id AND p.branch = b.name \
               WHERE b.repository_id = $1 AND b.name > $2 ORDER BY b.name LIMIT $3";
    let after = page.begins_after(String::new(), |name| Some(name.to_owned()))?;
    let rows = store.query(sql, &[repository.as_str().into(), after.into(), page.limit().into()]).await?;
    let found = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(page.cut(found, |b| b.name.clone()))
}

/// What each row of a repository was computed from, by the name of its branch.
pub async fn bases(from: &impl Reader, repository: &RepositoryId) -> Result<HashMap<String, Basis>> {
    let sql = "SELECT name, inputs, parent, fork FROM branch_overviews WHERE repository_id = $1";
    let rows = from.query(sql, &[repository.as_str().into()]).await?;
    let basis = |row: &Row| {
        let text = |column| row.text(column).map(str::to_owned);
        Ok((text("name")?, Basis { inputs: text("inputs")?, parent: text("parent")?, fork: text("fork")? }))
    };
    rows.iter().map(basis).collect()
}

/// The parents of the branches that the remote has, by their names: work that exists only in Foundry is in no stack.
pub async fn parents(from: &impl Reader, repository: &RepositoryId) -> Result<HashMap<String, String>> {
    let sql = "SELECT o.name AS name, o.parent AS parent FROM branch_overviews o \
               JOIN branches b ON b.repository_id = o.repository_id AND b.name = o.name WHERE o.repository_id = $1";
    let rows = from.query(sql, &[repository.as_str().into()]).await?;
    rows.iter().map(|row| Ok((row.text("name")?.to_owned(), row.text("parent")?.to_owned()))).collect()
}

/// Where a branch was when its row was computed; none for one that is not known, or whose row is damaged.
pub async fn head(from: &impl Reader, repository: &RepositoryId, name: &str) -> Result<Option<CommitId>> {
    let sql = "SELECT name, overview FROM branch_overviews WHERE repository_id = $1 AND name = $2";
    let rows = from.query(sql, &[repository.as_str().into(), name.into()]).await?;
    let Some(Ok(branch)) = rows.first().map(decoded) else { return Ok(None) };
    Ok(CommitId::parse(&branch.commit).ok())
}

/// Adds or replaces a branch.
pub fn put(
    ws: &mut WriteSet,
    rev: RevRef,
    (organization, repository): (&OrganizationId, &RepositoryId),
    basis: &Basis,
    branch: &BranchOverview,
) {
    let values = vec![
        repository.as_str().into(),
        branch.name.as_str().into(),
        organization.as_str().into(),
        rev.into(),
        basis.inputs.as_str().into(),
        basis.parent.as_str().into(),
        basis.fork.as_str().into(),
        branch.encode_to_vec().into(),
    ];
    ws.upsert(&BRANCH_OVERVIEWS, values);
}

/// Removes a branch, for watches too.
pub fn remove(ws: &mut WriteSet, rev: RevRef, repository: &RepositoryId, name: &str) {
    ws.remove(&BRANCH_OVERVIEWS, &[repository.as_str().into(), name.into()]);
    ws.tombstone(rev, &kind(repository), &format!("branch/{name}"));
}

/// Removes all rows of a repository, those of the named branches for watches too.
pub fn remove_all<'a>(
    ws: &mut WriteSet,
    rev: RevRef,
    repository: &RepositoryId,
    names: impl Iterator<Item = &'a String>,
) {
    ws.delete_where(&BRANCH_OVERVIEWS, &[("repository_id", repository.as_str().into())]);
    for name in names {
        ws.tombstone(rev, &kind(repository), &format!("branch/{name}"));
    }
}
