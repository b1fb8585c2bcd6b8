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
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
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

/// As sqlx opens the same file. A shared cache would have locks of its own, for which nothing here could wait.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX)
    .union(OpenFlags::SQLITE_OPEN_URI)
    .union(OpenFlags::SQLITE_OPEN_PRIVATE_CACHE);

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

/// Opens a connection as all of them are, with room for so many prepared statements.
fn connect(path: &Path, statements: usize) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, FLAGS)?;
    connection.busy_timeout(LOCK_PATIENCE)?;
    // Otherwise a statement whose plan could depend on a parameter, such as that of its LIMIT, is prepared for each run.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(statements);
    Ok(connection)
}

fn writer(path: &Path) -> rusqlite::Result<Connection> {
    let writer = connect(path, STATEMENTS)?;
    writer.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000; \
         PRAGMA foreign_keys = ON",
    )?;
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    fn connection() -> (Connection, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        drop(Connection::open(&path).unwrap());
        (writer(&path).unwrap(), directory)
    }

    #[test]
    fn a_statement_is_prepared_once_whatever_its_parameters() {
        let (connection, _directory) = connection();
        let table = "CREATE TABLE t (n BIGINT, open BIGINT); CREATE INDEX opened ON t (n) WHERE open = 1";
        connection.execute_batch(table).unwrap();
        let mut read = connection.prepare("SELECT n FROM t WHERE open = ?1 AND n > ?2 LIMIT ?3").unwrap();
        for n in 0..5 {
            assert!(!read.exists([n % 2, n, n]).unwrap());
        }
        assert_eq!(read.get_status(StatementStatus::RePrepare), 0);
    }

    #[test]
    fn is_built_without_what_nobody_here_uses() {
        let (connection, _directory) = connection();
        let mut read = connection.prepare("PRAGMA compile_options").unwrap();
        let options = read.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let options: Vec<_> = options.map(Result::unwrap).collect();
        assert!(options.iter().any(|o| o == "DEFAULT_MEMSTATUS=0"), "{options:?}");
        for unused in ["ENABLE_STAT4", "ENABLE_API_ARMOR", "ENABLE_MEMORY_MANAGEMENT"] {
            assert!(!options.iter().any(|o| o == unused), "{unused}: {options:?}");
        }
    }
}
