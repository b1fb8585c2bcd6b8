//! Table `branch_names`: the names of branches, copied from the repo service, so that the branch of a new task is compared
//! with them without a call. A row for each repository that has a copy in `repositories`; it is removed with the repository.

use foundry_core::{RepositoryId, Result, Timestamp};
use foundry_store::{Reader, Row, Store, Table, WriteSet};

use super::upstream::REMOVED;

/// Names of branches, by repository.
pub const BRANCH_NAMES: Table =
    Table::new("branch_names", &["repository_id", "upstream_rev", "as_of", "names"], &["repository_id"]);

/// The branches that the remote of a repository had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchNames {
    /// The synchronization that found them, as far as that is known.
    pub as_of: Timestamp,
    /// One name on a line.
    pub names: String,
}

impl BranchNames {
    /// Whether the remote had a branch of exactly this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.lines().any(|known| known == name)
    }

    /// The first branch beside which git cannot have a new one of this name: the same, one below it, or one above it.
    pub fn conflict(&self, name: &str) -> Option<&str> {
        let is_below =
            |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
        self.names.lines().find(|b| *b == name || is_below(b, name) || is_below(name, b))
    }
}

/// The names of a repository's branches; none before they were copied.
pub async fn find(from: &impl Reader, repository: &RepositoryId) -> Result<Option<BranchNames>> {
    const SQL: &str = "SELECT as_of, names FROM branch_names WHERE repository_id = $1";
    from.query(SQL, &[repository.into()]).await?.first().map(read).transpose()
}

/// Reads a row.
pub(super) fn read(row: &Row) -> Result<BranchNames> {
    Ok(BranchNames { as_of: row.time("as_of")?, names: row.text("names")?.to_owned() })
}

/// The repositories that have changed since their names were copied, and the revision of each.
pub async fn outdated(store: &Store) -> Result<Vec<(RepositoryId, i64)>> {
    const SQL: &str = "SELECT r.repository_id, r.upstream_rev FROM repositories r \
         LEFT JOIN branch_names b ON b.repository_id = r.repository_id \
         WHERE r.upstream_rev < $1 AND (b.upstream_rev IS NULL OR b.upstream_rev < r.upstream_rev)";
    let rows = store.query(SQL, &[REMOVED.into()]).await?;
    rows.iter().map(|row| Ok((row.text("repository_id")?.parse()?, row.int("upstream_rev")?))).collect()
}

/// Stores the names as of a revision of the repository.
pub fn put(ws: &mut WriteSet, repository: &RepositoryId, rev: i64, names: &BranchNames) {
    let row = [repository.into(), rev.into(), names.as_of.into(), names.names.as_str().into()];
    ws.upsert(&BRANCH_NAMES, row);
}

/// Stores that the names are the same as of a later revision of the repository, without writing them.
pub fn confirm(ws: &mut WriteSet, repository: &RepositoryId, rev: i64, as_of: Timestamp) {
    let set = [("upstream_rev", rev.into()), ("as_of", as_of.into())];
    ws.update_where(&BRANCH_NAMES, &[("repository_id", repository.into())], &set);
}

/// Removes the names of a repository that was removed.
pub fn remove(ws: &mut WriteSet, repository: &RepositoryId) {
    ws.remove(&BRANCH_NAMES, &[repository.into()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_conflicts_with_the_same_one_below_and_above() {
        let names =
            BranchNames { as_of: Timestamp::default(), names: "a%b\nfeature/x\nfix\nmain".to_owned() };
        for (name, taken_by) in [
            ("feature", Some("feature/x")),
            ("feature/x", Some("feature/x")),
            ("feature/x/y", Some("feature/x")),
            ("fix/a", Some("fix")),
            ("feature/y", None),
            ("features", None),
            ("fi", None),
            ("a_b", None),
            ("mainly/x", None),
        ] {
            assert_eq!(names.conflict(name), taken_by, "{name}");
        }
    }
}
