//! A snapshot: several reads of the same state.
//!
//! A caller's future may be dropped at any await. On PostgreSQL the read transaction therefore lives in a task that the
//! store owns, which ends it before its connection goes back to the pool; on SQLite the connection itself does that.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use foundry_core::Error;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::{read_failed, stopped};
use crate::sqlite::ReadTransaction;
use crate::stats::Counters;
use crate::value::storable;
use crate::{Row, Scope, Value};

pub(crate) type Answer = oneshot::Sender<Result<Vec<Row>, Error>>;

/// One read for the task that holds the transaction.
pub(crate) struct Read {
    pub(crate) sql: &'static str,
    pub(crate) params: Vec<Value>,
    pub(crate) answer: Answer,
}

/// The next read, until the snapshot is dropped or the store closes.
pub(crate) async fn next_read(reads: &mut mpsc::Receiver<Read>, cancel: &CancellationToken) -> Option<Read> {
    tokio::select! {
        read = reads.recv() => read,
        () = cancel.cancelled() => None,
    }
}

/// A consistent view of the database. Keep it short: it holds a connection.
pub struct Snapshot {
    pub(crate) source: Source,
    pub(crate) stats: Arc<Counters>,
}

pub(crate) enum Source {
    Sqlite(ReadTransaction),
    /// To the task that holds the transaction.
    Postgres(mpsc::Sender<Read>),
}

/// An entity that was removed from a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The entity's kind or view.
    pub kind: String,
    /// The entity's key within its kind.
    pub key: String,
    /// The revision at which it was removed.
    pub rev: i64,
}

impl Snapshot {
    /// Runs one reading statement.
    ///
    /// # Errors
    /// See [`crate::Store::query`].
    pub async fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, Error> {
        self.stats.statements.fetch_add(1, Ordering::Relaxed);
        let params = storable(params);
        match &self.source {
            Source::Sqlite(transaction) => transaction.query(sql, &params).await.map_err(read_failed),
            Source::Postgres(reads) => {
                let (answer, rows) = oneshot::channel();
                let read = Read { sql, params: params.into_owned(), answer };
                reads.send(read).await.map_err(|_| stopped())?;
                rows.await.map_err(|_| stopped())?
            }
        }
    }

    /// The newest revision of a scope in this snapshot; 0 when nothing was written yet.
    ///
    /// # Errors
    /// See [`Snapshot::query`].
    pub async fn head(&self, scope: &Scope) -> Result<i64, Error> {
        let rows = self.query(HEAD_SQL, &[scope.as_str().into()]).await?;
        rows.first().map_or(Ok(0), |row| row.int("rev"))
    }

    /// The revision below which tombstones of a scope were deleted; 0 when none was.
    ///
    /// # Errors
    /// See [`Snapshot::query`].
    pub async fn floor(&self, scope: &Scope) -> Result<i64, Error> {
        let rows = self.query(FLOOR_SQL, &[scope.as_str().into()]).await?;
        rows.first().map_or(Ok(0), |row| row.int("floor"))
    }

    /// Up to `limit` tombstones of a scope after a revision, oldest first; of one kind, or of all when `kind` is none.
    /// Several may share a revision, so a full page may end in the middle of one.
    ///
    /// # Errors
    /// See [`Snapshot::query`].
    pub async fn tombstones_after(
        &self,
        scope: &Scope,
        kind: Option<&str>,
        rev: i64,
        limit: u32,
    ) -> Result<Vec<Tombstone>, Error> {
        let scope = scope.as_str().into();
        let rows = match kind {
            Some(kind) => {
                self.query(TOMBSTONES_OF_KIND_SQL, &[scope, rev.into(), limit.into(), kind.into()]).await?
            }
            None => self.query(TOMBSTONES_SQL, &[scope, rev.into(), limit.into()]).await?,
        };
        rows.iter()
            .map(|row| {
                let (kind, key) = (row.text("kind")?.to_owned(), row.text("key")?.to_owned());
                Ok(Tombstone { kind, key, rev: row.int("rev")? })
            })
            .collect()
    }
}

pub(crate) const HEAD_SQL: &str = "SELECT rev FROM store_scopes WHERE scope = $1";
const FLOOR_SQL: &str = "SELECT floor FROM store_scopes WHERE scope = $1";
const TOMBSTONES_SQL: &str = "SELECT kind, key, rev FROM store_tombstones \
     WHERE scope = $1 AND rev > $2 ORDER BY rev, kind, key LIMIT $3";
const TOMBSTONES_OF_KIND_SQL: &str = "SELECT kind, key, rev FROM store_tombstones \
     WHERE scope = $1 AND rev > $2 AND kind = $4 ORDER BY rev, key LIMIT $3";
