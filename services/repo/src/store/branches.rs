//! Table `branches`: the branches of a mirror as of the last synchronization.

use foundry_core::{PageRequest, PageToken, RepositoryId, Result, Timestamp};
use foundry_proto::repo::v1;
use foundry_store::{Row, Store, Table, WriteSet};

pub const BRANCHES: Table = Table::new(
    "branches",
    &["repository_id", "name", "commit_id", "commit_time", "subject"],
    &["repository_id", "name"],
);

/// A branch of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchRow {
    /// Name without `refs/heads/`.
    pub name: String,
    /// Id of its tip, in hex.
    pub commit_id: String,
    /// Committer time of the tip.
    pub commit_time: Timestamp,
    /// First line of the tip's message.
    pub subject: String,
}

impl BranchRow {
    /// The wire form.
    pub fn to_proto(&self) -> v1::Branch {
        v1::Branch {
            name: self.name.clone(),
            commit: self.commit_id.clone(),
            commit_time: Some(self.commit_time.to_proto()),
            subject: self.subject.clone(),
        }
    }
}

fn read(row: &Row) -> Result<BranchRow> {
    Ok(BranchRow {
        name: row.text("name")?.to_owned(),
        commit_id: row.text("commit_id")?.to_owned(),
        commit_time: row.time("commit_time")?,
        subject: row.text("subject")?.to_owned(),
    })
}

/// A branch as the mirror has it.
pub async fn find(store: &Store, repository: &RepositoryId, name: &str) -> Result<Option<BranchRow>> {
    let sql =
        "SELECT name, commit_id, commit_time, subject FROM branches WHERE repository_id = $1 AND name = $2";
    store.query(sql, &[repository.as_str().into(), name.into()]).await?.first().map(read).transpose()
}

/// A page of branches, sorted by name.
pub async fn list(
    store: &Store,
    repository: &RepositoryId,
    page: &PageRequest,
) -> Result<(Vec<BranchRow>, Option<PageToken>)> {
    let sql = "SELECT name, commit_id, commit_time, subject FROM branches \
               WHERE repository_id = $1 AND name > $2 ORDER BY name LIMIT $3";
    let after = page.begins_after(String::new(), |name| Some(name.to_owned()))?;
    let rows = store.query(sql, &[repository.as_str().into(), after.into(), page.limit().into()]).await?;
    let found = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(page.cut(found, |b| b.name.clone()))
}

/// The first branch beside which git cannot have a new one of this name: the same, one below it, or one above it.
pub async fn conflict(store: &Store, repository: &RepositoryId, name: &str) -> Result<Option<String>> {
    const SQL: &str = "SELECT name FROM branches WHERE repository_id = $1 AND (name = $2 \
                       OR substr(name, 1, length($3)) = $3 OR substr($3, 1, length(name) + 1) = name || '/') \
                       ORDER BY name LIMIT 1";
    let below = format!("{name}/");
    let params = [repository.as_str().into(), name.into(), below.as_str().into()];
    let rows = store.query(SQL, &params).await?;
    rows.first().map(|row| Ok(row.text("name")?.to_owned())).transpose()
}

/// All branches of a repository, in no order.
pub async fn all(store: &Store, repository: &RepositoryId) -> Result<Vec<BranchRow>> {
    let sql = "SELECT name, commit_id, commit_time, subject FROM branches WHERE repository_id = $1";
    store.query(sql, &[repository.as_str().into()]).await?.iter().map(read).collect()
}

/// Adds a branch, or moves it.
pub fn put(ws: &mut WriteSet, repository: &RepositoryId, branch: &BranchRow) {
    let values = vec![
        repository.as_str().into(),
        branch.name.as_str().into(),
        branch.commit_id.as_str().into(),
        branch.commit_time.into(),
        branch.subject.as_str().into(),
    ];
    ws.upsert(&BRANCHES, values);
}

/// Replaces the stored branches with `new`, writing only the differences.
pub fn replace(ws: &mut WriteSet, repository: &RepositoryId, old: &[BranchRow], new: &[BranchRow]) {
    let before: std::collections::BTreeMap<&str, &BranchRow> =
        old.iter().map(|b| (b.name.as_str(), b)).collect();
    let names: std::collections::BTreeSet<&str> = new.iter().map(|b| b.name.as_str()).collect();
    for branch in new.iter().filter(|b| before.get(b.name.as_str()) != Some(b)) {
        put(ws, repository, branch);
    }
    for gone in old.iter().filter(|b| !names.contains(b.name.as_str())) {
        ws.remove(&BRANCHES, &[repository.as_str().into(), gone.name.as_str().into()]);
    }
}
