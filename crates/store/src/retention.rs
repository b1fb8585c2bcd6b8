//! Deletes what is past its retention: tombstones and remembered requests here, other rows on behalf of their owners. In
//! small statements, so that requests are never blocked by a long one.

use foundry_core::{Error, Timestamp};

use crate::{DialectSql, Store, Value};

/// Most rows that one statement deletes.
const CHUNK: i64 = 500;

const RAISE_FLOORS: &str = "UPDATE store_scopes SET floor = \
       (SELECT max(t.rev) FROM store_tombstones t WHERE t.scope = store_scopes.scope AND t.at < $1) \
     WHERE scope IN (SELECT DISTINCT scope FROM store_tombstones WHERE at < $1) AND floor < \
       (SELECT max(t.rev) FROM store_tombstones t WHERE t.scope = store_scopes.scope AND t.at < $1)";

const DELETE_TOMBSTONES: &str = "DELETE FROM store_tombstones WHERE (scope, kind, key) IN \
       (SELECT t.scope, t.kind, t.key FROM store_tombstones t \
        JOIN store_scopes s ON s.scope = t.scope AND t.rev <= s.floor \
        WHERE t.at < $1 ORDER BY t.at LIMIT $2) RETURNING 1 AS gone";

const DELETE_IDEMPOTENCY: &str = "DELETE FROM store_idempotency \
     WHERE (organization_id, caller, method, request_id) IN \
       (SELECT organization_id, caller, method, request_id FROM store_idempotency \
        WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2) RETURNING 1 AS gone";

impl Store {
    /// Deletes tombstones older than an instant and raises the floors of their scopes: a position below its scope's
    /// floor can no longer be resumed. Returns how many were deleted.
    ///
    /// # Errors
    /// See [`Store::write`].
    pub async fn sweep_tombstones(&self, older_than: Timestamp) -> Result<u64, Error> {
        // The floor rises first: a watcher is reset too early rather than left with a gap.
        self.write(same(RAISE_FLOORS), &[older_than.into()]).await?;
        self.delete_in_chunks(DELETE_TOMBSTONES, &[older_than.into()]).await
    }

    /// Deletes remembered requests that have expired. Returns how many.
    ///
    /// # Errors
    /// See [`Store::write`].
    pub async fn sweep_idempotency(&self) -> Result<u64, Error> {
        let now = self.now().await?;
        self.delete_in_chunks(DELETE_IDEMPOTENCY, &[now.into()]).await
    }

    /// Runs a deleting statement, each time in a commit of its own, until it deletes fewer rows than a chunk; returns how
    /// many it deleted. The parameter after the given ones is the most rows that it may delete; it returns a row for each.
    /// The space is used again by later writes.
    ///
    /// # Errors
    /// See [`Store::write`].
    pub async fn delete_in_chunks(&self, sql: &'static str, which: &[Value]) -> Result<u64, Error> {
        let parameters: Vec<Value> = which.iter().cloned().chain([Value::Int(CHUNK)]).collect();
        let mut gone = 0;
        loop {
            let n = self.write(same(sql), &parameters).await?.len() as u64;
            gone += n;
            if n < CHUNK.unsigned_abs() {
                return Ok(gone);
            }
        }
    }
}

fn same(sql: &'static str) -> DialectSql {
    DialectSql { sqlite: sql, postgres: sql }
}
