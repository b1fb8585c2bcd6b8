//! Reads, snapshots, and single writing statements.

use std::sync::Arc;

use foundry_core::{Error, Timestamp};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Executor as _, Row as _, SqlSafeStr};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::writing::is_transient;
use super::{arguments, roll_back, rows};
use crate::error::read_failed;
use crate::snapshot::{Read, next_read};
use crate::storage::StorageState;
use crate::value::Bound;
use crate::writer::MAX_TRIES;
use crate::{CommitError, Fault, Row, Value};

pub(crate) const NOW_SQL: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// One reading statement.
pub(crate) async fn query(
    connection: &mut PgConnection,
    sql: impl SqlSafeStr,
    params: &[Value],
) -> Result<Vec<Row>, sqlx::Error> {
    let params: Vec<Bound<'_>> = params.iter().map(Bound::plain).collect();
    let found = sqlx::query_with(sql, arguments(&params)?).fetch_all(connection).await?;
    rows(&found)
}

/// The time by the database's clock.
pub(crate) async fn now(connection: &mut PgConnection) -> Result<Timestamp, sqlx::Error> {
    let row = sqlx::query(NOW_SQL).fetch_one(connection).await?;
    row.try_get(0).map(Timestamp::from_micros)
}

/// One writing statement, in its own transaction. Runs in a task of the store, so that a caller that goes away cannot
/// leave it half done.
pub(crate) async fn write(
    pool: PgPool,
    sql: &'static str,
    params: Vec<Value>,
    reply: oneshot::Sender<Result<Vec<Row>, CommitError>>,
    storage: Arc<StorageState>,
) {
    let mut tries = 0;
    let outcome = loop {
        tries += 1;
        let attempt = match pool.acquire().await {
            Ok(mut connection) => query(&mut connection, sql, &params).await,
            Err(e) => Err(e),
        };
        match attempt {
            Err(e) if is_transient(&e) && tries < MAX_TRIES => {}
            Err(e) => {
                storage.failed(Fault::of(&e), &e);
                break Err(CommitError::database(e));
            }
            Ok(rows) => break Ok(rows),
        }
    };
    // A caller that has gone away needs no answer.
    let _ = reply.send(outcome);
}

/// Holds one read transaction for as long as its [`crate::Snapshot`] lives.
pub(crate) async fn serve_snapshot(
    pool: PgPool,
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
    if roll_back(&mut connection).await.is_err() {
        // A connection in an unknown state must not be used again.
        drop(connection.detach());
    }
}

async fn begin(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    // The first read fixes the snapshot.
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1").await.map(drop)
}
