//! SQLite: one writing connection and a few reading ones, through rusqlite; sqlx only migrates the schema.

mod reader;
mod reading;
mod sql;
mod writing;

use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::Error;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::StoreOptions;
use crate::migration::{Dialect, Migrations};
use crate::stats::Counters;

pub(crate) use reader::Reader;
pub(crate) use reading::{ReadPool, ReadTransaction};
pub(crate) use sql::on_conflict;
pub(crate) use writing::SqliteBackend;

/// How long a statement waits for a lock, on a thread that may wait.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Statements that the writer keeps.
const STATEMENTS: usize = 1024;

/// Opens the file, migrates its schema, and returns the writing and the reading side.
pub(crate) async fn open(
    url: &str,
    migrations: &[&Migrations],
    options: &StoreOptions,
    stats: &Arc<Counters>,
) -> Result<(rusqlite::Connection, ReadPool), Error> {
    let file = SqliteConnectOptions::from_str(url)
        .map_err(Error::internal)?
        .busy_timeout(LOCK_PATIENCE)
        .foreign_keys(true)
        .disable_statement_logging()
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut migrating = file.connect().await.map_err(Error::internal)?;
    // After a failed sync of an earlier process, the system may believe pages of the log to be on the disk that are not.
    // Here they are written and synced once more, and the log begins again. Beside other processes it may be busy.
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut migrating).await.map_err(Error::internal)?;
    for list in migrations {
        list.migrator(Dialect::Sqlite).run(&mut migrating).await.map_err(Error::internal)?;
    }
    let path = file.get_filename();
    let writer = writer(path).map_err(Error::internal)?;
    migrating.close().await.map_err(Error::internal)?;
    Ok((writer, ReadPool::new(path, options, Arc::clone(stats))))
}

fn writer(path: &Path) -> rusqlite::Result<rusqlite::Connection> {
    let writer = rusqlite::Connection::open_with_flags(path, reader::FLAGS)?;
    writer.busy_timeout(LOCK_PATIENCE)?;
    writer.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000; \
         PRAGMA foreign_keys = ON",
    )?;
    writer.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(writer)
}
