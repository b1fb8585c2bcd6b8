//! Table `branch_places`: where actions have put branches. A row counts as long as its branch is at that head; it goes
//! with the branch, and all with the repository.

use std::collections::HashMap;

use foundry_core::{RepositoryId, Result};
use foundry_store::{Reader, Table, WriteSet};

use crate::domain::stack::Placed;

pub const BRANCH_PLACES: Table = Table::new(
    "branch_places",
    &["repository_id", "branch", "head", "parent", "fork"],
    &["repository_id", "branch"],
);

/// The places by the names of their branches.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn all(from: &impl Reader, repository: &RepositoryId) -> Result<HashMap<String, Placed>> {
    let sql = "SELECT branch, head, parent, fork FROM branch_places WHERE repository_id = $1";
    let rows = from.query(sql, &[repository.as_str().into()]).await?;
    rows.iter()
        .map(|row| {
            let text = |column| row.text(column).map(str::to_owned);
            let placed = Placed { head: text("head")?, parent: text("parent")?, fork: text("fork")? };
            Ok((text("branch")?, placed))
        })
        .collect()
}

/// Adds or replaces the place of a branch.
pub fn put(ws: &mut WriteSet, repository: &RepositoryId, branch: &str, placed: &Placed) {
    let Placed { head, parent, fork } = placed;
    let values = vec![
        repository.as_str().into(),
        branch.into(),
        head.as_str().into(),
        parent.as_str().into(),
        fork.as_str().into(),
    ];
    ws.upsert(&BRANCH_PLACES, values);
}

/// Removes the place of a branch.
pub fn remove(ws: &mut WriteSet, repository: &RepositoryId, branch: &str) {
    ws.remove(&BRANCH_PLACES, &[repository.as_str().into(), branch.into()]);
}
