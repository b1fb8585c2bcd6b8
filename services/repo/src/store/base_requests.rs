//! Table `base_requests`: when each sandbox first asked for the base that it clones.

use foundry_core::{RepositoryId, Result, SandboxId, Timestamp};
use foundry_store::{Reader, Table, WriteSet};

pub const BASE_REQUESTS: Table =
    Table::new("base_requests", &["sandbox_id", "repository_id", "request_time"], &["sandbox_id"]);

/// When the sandbox asked for a base of this repository, if it has.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn find(
    from: &impl Reader,
    sandbox: &SandboxId,
    repository: &RepositoryId,
) -> Result<Option<Timestamp>> {
    const SQL: &str = "SELECT request_time FROM base_requests WHERE sandbox_id = $1 AND repository_id = $2";
    let rows = from.query(SQL, &[sandbox.as_str().into(), repository.as_str().into()]).await?;
    rows.first().map(|row| row.time("request_time")).transpose()
}

/// Records that the sandbox asks now.
pub fn put(ws: &mut WriteSet, sandbox: &SandboxId, repository: &RepositoryId, now: Timestamp) {
    ws.upsert(&BASE_REQUESTS, vec![sandbox.as_str().into(), repository.as_str().into(), now.into()]);
}
