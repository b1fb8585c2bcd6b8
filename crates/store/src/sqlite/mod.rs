//! SQLite: one writing connection, and a few reading ones with an interface of their own.

mod reader;
mod reading;
mod sql;
mod writing;

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foundry_core::Error;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{Arguments as _, ConnectOptions as _, Row as _, SqlSafeStr, TypeInfo as _, ValueRef as _};

use crate::migration::{Dialect, Migrations};
use crate::stats::Counters;
use crate::value::Bound;
use crate::{Row, StoreOptions, Value};

pub(crate) use reading::{ReadPool, ReadTransaction};
pub(crate) use sql::on_conflict;
pub(crate) use writing::SqliteBackend;

/// How long a statement waits for a lock, on a thread that may wait.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Opens the file, migrates its schema, and returns the writing and the reading side.
pub(crate) async fn open(
    url: &str,
    migrations: &[&Migrations],
    options: &StoreOptions,
    stats: &Arc<Counters>,
) -> Result<(SqliteConnection, ReadPool), Error> {
    let writing = SqliteConnectOptions::from_str(url)
        .map_err(Error::internal)?
        .busy_timeout(LOCK_PATIENCE)
        .foreign_keys(true)
        .disable_statement_logging()
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "1000")
        .statement_cache_capacity(1024);
    let mut writer = writing.connect().await.map_err(Error::internal)?;
    // After a failed sync of an earlier process, the system may believe pages of the log to be on the disk that are not.
    // Here they are written and synced once more, and the log begins again. Beside other processes it may be busy.
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut writer).await.map_err(Error::internal)?;
    for list in migrations {
        list.migrator(Dialect::Sqlite).run(&mut writer).await.map_err(Error::internal)?;
    }
    Ok((writer, ReadPool::new(writing.get_filename(), options, Arc::clone(stats))))
}

/// One reading statement on a connection of sqlx.
pub(crate) async fn query(
    connection: &mut SqliteConnection,
    sql: impl SqlSafeStr,
    params: &[Value],
) -> Result<Vec<Row>, sqlx::Error> {
    let params: Vec<Bound<'_>> = params.iter().map(Bound::plain).collect();
    let found = sqlx::query_with(sql, arguments(&params)?).fetch_all(connection).await?;
    rows(&found)
}

fn arguments(params: &[Bound<'_>]) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(params.len(), 0);
    for param in params {
        match *param {
            Bound::Null => arguments.add(None::<i64>),
            Bound::Text(s) => arguments.add(s),
            Bound::Int(i) => arguments.add(i),
            Bound::Blob(b) => arguments.add(&b[..]),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn rows(rows: &[SqliteRow]) -> Result<Vec<Row>, sqlx::Error> {
    Row::all(rows, value)
}

fn value(row: &SqliteRow, i: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(i)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let info = raw.type_info();
    match info.name() {
        "TEXT" => match row.try_get_unchecked::<String, _>(i) {
            Ok(text) => Ok(Value::Text(text)),
            // A damaged text must not fail the other rows of the result.
            Err(_) => row.try_get_unchecked::<Vec<u8>, _>(i).map(|b| Value::Blob(Bytes::from(b))),
        },
        "BLOB" => row.try_get_unchecked::<Vec<u8>, _>(i).map(|b| Value::Blob(Bytes::from(b))),
        "INTEGER" | "BOOLEAN" => row.try_get_unchecked::<i64, _>(i).map(Value::Int),
        other => Err(sqlx::Error::Protocol(format!("column {i} has the unsupported type {other}"))),
    }
}
