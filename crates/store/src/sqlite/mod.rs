//! SQLite: one writing connection, and a pool of reading ones.

mod reading;
mod sql;
mod writing;

use std::str::FromStr as _;
use std::time::Duration;

use bytes::Bytes;
use foundry_core::Error;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Arguments as _, ConnectOptions as _, Row as _, TypeInfo as _, ValueRef as _};

use crate::migration::{Dialect, Migrations};
use crate::value::Bound;
use crate::{Row, StoreOptions, Value};

pub(crate) use reading::{query, serve_snapshot};
pub(crate) use sql::on_conflict;
pub(crate) use writing::SqliteBackend;

/// Opens the file, migrates its schema, and returns the writing and the reading side.
pub(crate) async fn open(
    url: &str,
    migrations: &[&Migrations],
    options: &StoreOptions,
) -> Result<(SqliteConnection, SqlitePool), Error> {
    let base = SqliteConnectOptions::from_str(url)
        .map_err(Error::internal)?
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(true)
        .disable_statement_logging();
    let writing = base
        .clone()
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
    let reading = base.pragma("query_only", "ON").statement_cache_capacity(256);
    let pool = SqlitePoolOptions::new()
        .max_connections(options.readers)
        .test_before_acquire(false)
        .acquire_timeout(options.acquire_timeout)
        .connect_lazy_with(reading);
    Ok((writer, pool))
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
