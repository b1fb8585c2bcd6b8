//! Sources of reads.

use foundry_core::Error;

use crate::{Row, Snapshot, Store, Value};

/// A source of rows: a [`Store`], where two reads may see different states, or a [`Snapshot`], where all reads see the
/// same one. Use a snapshot for several reads that form one answer; a write is protected by guards instead.
pub trait Reader: Sync {
    /// Runs one reading statement with `$1` parameters, the same text on both databases.
    ///
    /// # Errors
    /// `UNAVAILABLE` while the store closes or when no connection became free, `INTERNAL` when the
    /// database fails.
    fn query(
        &self,
        sql: &'static str,
        params: &[Value],
    ) -> impl Future<Output = Result<Vec<Row>, Error>> + Send;
}

impl Reader for Store {
    async fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, Error> {
        Self::query(self, sql, params).await
    }
}

impl Reader for Snapshot {
    async fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, Error> {
        Self::query(self, sql, params).await
    }
}
