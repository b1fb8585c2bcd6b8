//! Table `base_requests`: when each sandbox first asked for the base that it clones, and of which branch.

use std::collections::BTreeSet;

use foundry_core::{RepositoryId, Result, SandboxId, Timestamp};
use foundry_store::{Reader, Table, WriteSet};

pub const BASE_REQUESTS: Table = Table::new(
    "base_requests",
    &["sandbox_id", "repository_id", "request_time", "base_branch", "lfs_message", "submodule_message"],
    &["sandbox_id"],
);

/// What a sandbox has asked for.
pub struct Asked {
    /// When it first did.
    pub at: Timestamp,
    /// Why files of Git LFS of its base were not fetched; empty = they were.
    pub lfs: String,
    /// Which submodules of its base it does not get, and why; empty = it gets all.
    pub submodules: String,
}

/// When the sandbox asked for a base of this repository, if it has, and what was not fetched of it since.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn find(
    from: &impl Reader,
    sandbox: &SandboxId,
    repository: &RepositoryId,
) -> Result<Option<Asked>> {
    const SQL: &str = "SELECT request_time, lfs_message, submodule_message FROM base_requests \
        WHERE sandbox_id = $1 AND repository_id = $2";
    let rows = from.query(SQL, &[sandbox.as_str().into(), repository.as_str().into()]).await?;
    let asked = |row: &foundry_store::Row| {
        Ok(Asked {
            at: row.time("request_time")?,
            lfs: row.text("lfs_message")?.to_owned(),
            submodules: row.text("submodule_message")?.to_owned(),
        })
    };
    rows.first().map(asked).transpose()
}

/// Records that the sandbox asks now for a base on this branch; empty = the default one.
pub fn put(ws: &mut WriteSet, sandbox: &SandboxId, repository: &RepositoryId, branch: &str, now: Timestamp) {
    let values = vec![
        sandbox.as_str().into(),
        repository.as_str().into(),
        now.into(),
        branch.into(),
        "".into(),
        "".into(),
    ];
    ws.upsert(&BASE_REQUESTS, values);
}

/// The branches that sandboxes have asked for since a time, by name, at most 20; empty = the default one.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn branches(
    from: &impl Reader,
    repository: &RepositoryId,
    since: Timestamp,
) -> Result<BTreeSet<String>> {
    const SQL: &str = "SELECT DISTINCT base_branch FROM base_requests \
        WHERE repository_id = $1 AND request_time >= $2 ORDER BY base_branch LIMIT 20";
    let rows = from.query(SQL, &[repository.as_str().into(), since.into()]).await?;
    rows.iter().map(|row| row.text("base_branch").map(str::to_owned)).collect()
}

/// Records why files of Git LFS and submodules of a branch were not fetched; empty = they are there.
pub fn note(ws: &mut WriteSet, repository: &RepositoryId, branch: &str, (lfs, submodules): (&str, &str)) {
    let key = [("repository_id", repository.as_str().into()), ("base_branch", branch.into())];
    ws.update_where(
        &BASE_REQUESTS,
        &key,
        &[("lfs_message", lfs.into()), ("submodule_message", submodules.into())],
    );
}
