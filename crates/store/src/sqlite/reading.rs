//! Reads, and snapshots on the reading side.

use foundry_core::Error;
use sqlx::SqlSafeStr;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{arguments, rows};
use crate::error::read_failed;
use crate::snapshot::{Read, next_read};
use crate::value::Bound;
use crate::{Row, Value};

/// One reading statement.
pub(crate) async fn query(
    connection: &mut SqliteConnection,
    sql: impl SqlSafeStr,
    params: &[Value],
) -> Result<Vec<Row>, sqlx::Error> {
    let params: Vec<Bound<'_>> = params.iter().map(Bound::plain).collect();
    let found = sqlx::query_with(sql, arguments(&params)?).fetch_all(connection).await?;
    rows(&found)
}

/// Holds one read transaction for as long as its [`crate::Snapshot`] lives.
pub(crate) async fn serve_snapshot(
    pool: SqlitePool,
    mut reads: mpsc::Receiver<Read>,
    begun: oneshot::Sender<Result<(), Error>>,
    cancel: CancellationToken,
) {
    let mut connection = match pool.acquire().await {
        Ok(connection) => connection,
        Err(e) => return drop(begun.send(Err(read_failed(e)))),
    };
    let started = begin(&mut connection).await.map_err(read_failed);
    let begun_well = started.is_ok();
    if begun.send(started).is_ok() && begun_well {
        while let Some(read) = next_read(&mut reads, &cancel).await {
            let answer = query(&mut connection, read.sql, &read.params).await.map_err(read_failed);
            // A caller that has gone away needs no answer.
            let _ = read.answer.send(answer);
        }
    }
    if sqlx::query("ROLLBACK").execute(&mut *connection).await.is_err() {
        // A connection in an unknown state must not be used again.
        drop(connection.detach());
    }
}

async fn begin(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("BEGIN DEFERRED").execute(&mut *connection).await?;
    // The first read fixes the snapshot.
    sqlx::query("SELECT 1 FROM store_meta LIMIT 1").fetch_optional(&mut *connection).await.map(drop)
}
