//! Table `branch_parents`: the parents that users have given to branches, and those that git-spice has recorded. A row stays
//! when its branch or its parent is gone, for one of the same name, unless that one was merged; and goes with the repository.

use std::collections::HashMap;

use foundry_core::{RepositoryId, Result};
use foundry_proto::repo::v1::ParentSource;
use foundry_store::{Reader, Table, WriteSet};

pub const BRANCH_PARENTS: Table = Table::new(
    "branch_parents",
    &["repository_id", "branch", "parent", "source"],
    &["repository_id", "branch"],
);

/// Who has said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A user of Foundry.
    User,
    /// The data of git-spice at the remote.
    Spice,
}

impl Source {
    /// As callers see it.
    pub fn to_proto(self) -> ParentSource {
        match self {
            Self::User => ParentSource::User,
            Self::Spice => ParentSource::GitSpice,
        }
    }
}

/// A parent that somebody has given to a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Name of the parent, which may be gone.
    pub parent: String,
    pub source: Source,
}

/// The parents by the names of their branches.
pub async fn all(from: &impl Reader, repository: &RepositoryId) -> Result<HashMap<String, String>> {
    let sql = "SELECT branch, parent FROM branch_parents WHERE repository_id = $1";
    let rows = from.query(sql, &[repository.as_str().into()]).await?;
    rows.iter().map(|row| Ok((row.text("branch")?.to_owned(), row.text("parent")?.to_owned()))).collect()
}

/// The parents with their sources, by the names of their branches.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn sourced(from: &impl Reader, repository: &RepositoryId) -> Result<HashMap<String, Given>> {
    let sql = "SELECT branch, parent, source FROM branch_parents WHERE repository_id = $1";
    let rows = from.query(sql, &[repository.as_str().into()]).await?;
    rows.iter()
        .map(|row| {
            let source = if row.text("source")? == "user" { Source::User } else { Source::Spice };
            let parent = row.text("parent")?.to_owned();
            Ok((row.text("branch")?.to_owned(), Given { parent, source }))
        })
        .collect()
}

/// The branches whose parents a user has given: no import replaces those.
pub async fn given_by_users(from: &impl Reader, repository: &RepositoryId) -> Result<Vec<String>> {
    let sql = "SELECT branch FROM branch_parents WHERE repository_id = $1 AND source = 'user'";
    let rows = from.query(sql, &[repository.as_str().into()]).await?;
    rows.iter().map(|row| Ok(row.text("branch")?.to_owned())).collect()
}

/// Gives a branch a parent.
pub fn put(ws: &mut WriteSet, repository: &RepositoryId, branch: &str, parent: &str, source: Source) {
    let source = match source {
        Source::User => "user",
        Source::Spice => "spice",
    };
    ws.upsert(&BRANCH_PARENTS, vec![repository.as_str().into(), branch.into(), parent.into(), source.into()]);
}

/// Takes the parent of a branch back, unless another one was given to it since it was read.
pub fn forget(ws: &mut WriteSet, repository: &RepositoryId, branch: &str, read: &str) {
    let read =
        [("repository_id", repository.as_str().into()), ("branch", branch.into()), ("parent", read.into())];
    ws.delete_where(&BRANCH_PARENTS, &read);
}

/// Takes the parent of a branch back that git-spice has given, unless a user has given one since.
pub fn forget_imported(ws: &mut WriteSet, repository: &RepositoryId, branch: &str) {
    let imported = [
        ("repository_id", repository.as_str().into()),
        ("branch", branch.into()),
        ("source", "spice".into()),
    ];
    ws.delete_where(&BRANCH_PARENTS, &imported);
}

/// Takes the parent of a branch back.
pub fn remove(ws: &mut WriteSet, repository: &RepositoryId, branch: &str) {
    ws.remove(&BRANCH_PARENTS, &[repository.as_str().into(), branch.into()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn what_was_given_since_it_was_read_is_not_forgotten() {
        let f = Fixture::new().await;
        let id = RepositoryId::generate(&f.env.env);
        let given = async |change: &dyn Fn(&mut WriteSet)| {
            let mut ws = WriteSet::new();
            change(&mut ws);
            f.cx.store.commit(ws).await.unwrap();
            all(&f.cx.store, &id).await.unwrap().remove("b")
        };
        given(&|ws| put(ws, &id, "b", "q", Source::User)).await;
        assert_eq!(given(&|ws| forget(ws, &id, "b", "p")).await.as_deref(), Some("q"));
        assert_eq!(given(&|ws| forget_imported(ws, &id, "b")).await.as_deref(), Some("q"));
        assert_eq!(given(&|ws| forget(ws, &id, "b", "q")).await, None);
        given(&|ws| put(ws, &id, "b", "q", Source::Spice)).await;
        assert_eq!(given(&|ws| forget_imported(ws, &id, "b")).await, None);
    }
}
