//! One reading connection, and what both kinds of connections have in common.
//!
//! A read begins on the thread of its caller, where it may neither run for long nor sleep. One that takes longer, or meets
//! a lock, is given up there and begun again on a thread that may wait.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use std::{fmt, str};

use bytes::Bytes;
use rusqlite::types::{Null, ValueRef};
use rusqlite::{Connection, Statement};
use sqlx::error::{DatabaseError, ErrorKind};

use super::LOCK_PATIENCE;
use crate::value::Bound;
use crate::{Fault, Row, Value};

/// Instructions of SQLite's virtual machine between two calls of the progress handler. It counts on from the statement's
/// earlier runs, so that the first call of a run may come after a few instructions.
const STEP: i32 = 1_000;
/// At this call a short read is interrupted: after 3,000 to 4,000 instructions.
const SHORT_STEPS: i64 = 4;
/// Bytes of texts and blobs that a short read may copy.
const SHORT_BYTES: usize = 256 * 1024;
const NO_LIMIT: i64 = i64::MAX;
/// Prepared statements that are kept.
const STATEMENTS: usize = 256;

/// A connection that one thread at a time uses.
pub(crate) struct Reader {
    connection: Connection,
    /// Calls of the progress handler until it interrupts the statement.
    left: Arc<AtomicI64>,
}

impl Reader {
    /// Opens the file and reads its schema. May wait for locks.
    pub(crate) fn open(path: &Path) -> Result<Self, sqlx::Error> {
        Self::opened(path).map_err(failed)
    }

    fn opened(path: &Path) -> rusqlite::Result<Self> {
        let connection = super::connect(path, STATEMENTS)?;
        connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA query_only = ON")?;
        // Otherwise the first statement would read the schema, on the thread of its caller.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        connection.busy_timeout(Duration::ZERO)?;
        let left = Arc::new(AtomicI64::new(NO_LIMIT));
        let counted = Arc::clone(&left);
        connection.progress_handler(STEP, Some(move || counted.fetch_sub(1, Ordering::Relaxed) <= 1))?;
        Ok(Self { connection, left })
    }

    /// The answer of a read, or none when it is too long for the thread of its caller. Never sleeps.
    pub(super) fn short(&self, sql: &str, params: &[Value]) -> Option<Result<Vec<Row>, sqlx::Error>> {
        self.left.store(SHORT_STEPS, Ordering::Relaxed);
        let mut bytes = 0;
        let read = read(&self.connection, sql, &plain(params), |row| {
            bytes += row.values.iter().map(size).sum::<usize>();
            bytes <= SHORT_BYTES
        });
        self.left.store(NO_LIMIT, Ordering::Relaxed);
        match read {
            Ok(rows) => rows.map(Ok),
            // Interrupted, or a lock is in the way.
            Err(e) if Fault::of(&e) == Fault::Busy => None,
            Err(e) => Some(Err(e)),
        }
    }

    /// The answer of a read, however long it takes. Waits for locks, and ends early, without rows, when nobody waits for
    /// the answer any more.
    pub(crate) fn long(
        &self,
        sql: &str,
        params: &[Value],
        awaited: &Weak<()>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        self.connection.busy_timeout(LOCK_PATIENCE).map_err(failed)?;
        let read = read(&self.connection, sql, &plain(params), |_| awaited.strong_count() > 0);
        self.connection.busy_timeout(Duration::ZERO).map_err(failed)?;
        read.map(Option::unwrap_or_default)
    }

    /// Begins a read transaction. Its first read fixes what it sees.
    pub(super) fn begin(&self) -> Result<(), sqlx::Error> {
        self.control("BEGIN DEFERRED")
    }

    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Ends the transaction, if there is one.
    pub(super) fn end(&self) -> Result<(), sqlx::Error> {
        if self.in_transaction() { self.control("ROLLBACK") } else { Ok(()) }
    }

    fn control(&self, sql: &str) -> Result<(), sqlx::Error> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        statement.raw_execute().map(|_| ()).map_err(failed)
    }
}

fn plain(params: &[Value]) -> Vec<Bound<'_>> {
    params.iter().map(Bound::plain).collect()
}

/// Runs one statement that returns rows; none when after some row no more are wanted.
pub(super) fn read(
    connection: &Connection,
    sql: &str,
    params: &[Bound<'_>],
    mut more: impl FnMut(&Row) -> bool,
) -> Result<Option<Vec<Row>>, sqlx::Error> {
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    bind(&mut statement, params)?;
    let mut found = statement.raw_query();
    let mut rows = Vec::new();
    let mut columns: Arc<[Box<str>]> = Arc::from([]);
    while let Some(row) = found.next().map_err(failed)? {
        if rows.is_empty() {
            // Not before: the first step prepares the statement again when the schema has changed.
            columns = names(row.as_ref())?;
        }
        let mut values = Vec::with_capacity(columns.len());
        for i in 0..columns.len() {
            values.push(value(row, i)?);
        }
        let row = Row { columns: Arc::clone(&columns), values };
        if !more(&row) {
            return Ok(None);
        }
        rows.push(row);
    }
    Ok(Some(rows))
}

/// To SQLite `$2` is a name, and it numbers names in the order in which they first appear. One without a
/// value is NULL.
fn bind(statement: &mut Statement<'_>, params: &[Bound<'_>]) -> Result<(), sqlx::Error> {
    for index in 1..=statement.parameter_count() {
        let number = statement.parameter_name(index).and_then(|name| name.strip_prefix('$')?.parse().ok());
        let Some(at) = number.and_then(|n: usize| n.checked_sub(1)) else {
            return Err(sqlx::Error::Protocol("the parameters of a statement are $1, $2, …".to_owned()));
        };
        bind_at(statement, index, params.get(at).copied().unwrap_or(Bound::Null))?;
    }
    Ok(())
}

/// Binds one parameter; the first has index 1.
pub(super) fn bind_at(
    statement: &mut Statement<'_>,
    index: usize,
    value: Bound<'_>,
) -> Result<(), sqlx::Error> {
    match value {
        Bound::Null => statement.raw_bind_parameter(index, Null),
        Bound::Text(text) => statement.raw_bind_parameter(index, text),
        Bound::Int(int) => statement.raw_bind_parameter(index, int),
        Bound::Blob(bytes) => statement.raw_bind_parameter(index, &bytes[..]),
    }
    .map_err(failed)
}

fn names(statement: &Statement<'_>) -> Result<Arc<[Box<str>]>, sqlx::Error> {
    let count = statement.column_count();
    (0..count).map(|i| statement.column_name(i).map(Box::from)).collect::<Result<_, _>>().map_err(failed)
}

fn value(row: &rusqlite::Row<'_>, i: usize) -> Result<Value, sqlx::Error> {
    Ok(match row.get_ref(i).map_err(failed)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(int) => Value::Int(int),
        ValueRef::Text(text) => match str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            // A damaged text must not fail the other rows of the result.
            Err(_) => Value::Blob(Bytes::copy_from_slice(text)),
        },
        ValueRef::Blob(bytes) => Value::Blob(Bytes::copy_from_slice(bytes)),
        ValueRef::Real(_) => {
            return Err(sqlx::Error::Protocol(format!("column {i} has the unsupported type REAL")));
        }
    })
}

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
        _ => 0,
    }
}

/// An error of SQLite in the form of sqlx, so that one place says what it means: [`Fault::of`].
pub(super) fn failed(e: rusqlite::Error) -> sqlx::Error {
    let message = e.to_string();
    match e {
        rusqlite::Error::SqliteFailure(error, _) | rusqlite::Error::SqlInputError { error, .. } => {
            sqlx::Error::Database(Box::new(SqliteFailure { code: error.extended_code, message }))
        }
        _ => sqlx::Error::Protocol(message),
    }
}

#[derive(Debug)]
struct SqliteFailure {
    /// The extended result code.
    code: i32,
    message: String,
}

impl fmt::Display for SqliteFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(code: {}) {}", self.code, self.message)
    }
}

impl std::error::Error for SqliteFailure {}

impl DatabaseError for SqliteFailure {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
        Some(self.code.to_string().into())
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
        match self.code {
            SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_UNIQUE => ErrorKind::UniqueViolation,
            _ => ErrorKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;
    use crate::error::read_failed;

    /// A reader of a small database, and a connection that may write to it.
    fn reader(directory: &tempfile::TempDir) -> (Reader, Connection) {
        let path = directory.path().join("x.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("CREATE TABLE t (n BIGINT); INSERT INTO t VALUES (7)").unwrap();
        (Reader::open(&path).unwrap(), writer)
    }

    fn int(rows: &[Row], column: &str) -> i64 {
        rows[0].int(column).unwrap()
    }

    #[test]
    fn a_read_that_meets_a_lock_waits_for_it_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let (reader, writer) = reader(&directory);
        const READ: &str = "SELECT n FROM t";
        const TIMEOUT: &str = "PRAGMA busy_timeout";
        writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
        assert_eq!(int(&reader.short(TIMEOUT, &[]).unwrap().unwrap(), "timeout"), 0);
        assert!(reader.short(READ, &[]).is_none());
        writer.execute_batch("COMMIT").unwrap();
        let awaited = Arc::new(());
        assert_eq!(int(&reader.long(READ, &[], &Arc::downgrade(&awaited)).unwrap(), "n"), 7);
        assert_eq!(
            int(&reader.long(TIMEOUT, &[], &Arc::downgrade(&awaited)).unwrap(), "timeout"),
            i64::try_from(LOCK_PATIENCE.as_millis()).unwrap()
        );
        assert_eq!(int(&reader.short(TIMEOUT, &[]).unwrap().unwrap(), "timeout"), 0);
    }

    #[test]
    fn a_long_read_for_nobody_ends_after_its_next_row() {
        let directory = tempfile::tempdir().unwrap();
        let (reader, _writer) = reader(&directory);
        const MANY: &str =
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 100000) SELECT n FROM c";
        assert!(reader.long(MANY, &[], &Weak::new()).unwrap().is_empty());
        assert!(reader.short(MANY, &[]).is_none());
        assert_eq!(int(&reader.short("SELECT n FROM t", &[]).unwrap().unwrap(), "n"), 7);
    }

    #[test]
    fn a_short_read_stays_short_however_often_it_runs() {
        let directory = tempfile::tempdir().unwrap();
        let (reader, _writer) = reader(&directory);
        for _ in 0..3 * STEP {
            assert!(reader.short("SELECT n FROM t WHERE n = $1", &[7.into()]).is_some());
        }
    }

    #[test]
    fn a_parameter_has_the_value_of_its_number_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let (reader, _writer) = reader(&directory);
        let read = |sql, params: &[Value]| reader.short(sql, params).unwrap();
        let rows = read("SELECT $2 AS a, $1 AS b, $2 AS c", &[1.into(), 2.into()]).unwrap();
        assert_eq!(rows[0].values, [Value::Int(2), Value::Int(1), Value::Int(2)]);
        // Nothing of an earlier run is left.
        let rows = read("SELECT $2 AS a, $1 AS b, $2 AS c", &[3.into()]).unwrap();
        assert_eq!(rows[0].values, [Value::Null, Value::Int(3), Value::Null]);
        for sql in ["SELECT ? AS a", "SELECT :a AS a", "SELECT $0 AS a", "SELECT $x AS a"] {
            assert!(read(sql, &[1.into()]).unwrap_err().to_string().contains("parameters"), "{sql}");
        }
    }

    #[test]
    fn an_error_means_what_its_extended_code_says() {
        let fault = |code| {
            let error = failed(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None));
            (Fault::of(&error), read_failed(error).reason().to_owned())
        };
        // Full; an error of a read, of shared memory; a snapshot that is too old; a damaged page.
        assert_eq!(fault(13), (Fault::Full, "STORAGE_FULL".to_owned()));
        assert_eq!(fault(266), (Fault::Failing, "STORAGE_FAILED".to_owned()));
        assert_eq!(fault(4874), (Fault::Failing, "STORAGE_FAILED".to_owned()));
        assert_eq!(fault(517), (Fault::Busy, "STORE_BUSY".to_owned()));
        assert_eq!(fault(267).0, Fault::Permanent);
        assert_eq!(fault(1034).0, Fault::Fatal, "a failed sync");
    }

    #[test]
    fn a_damaged_file_and_a_wrong_text_are_errors_with_their_cause() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("y.db");
        std::fs::write(&path, [7; 4096]).unwrap();
        let error = Reader::open(&path).err().unwrap();
        assert!(matches!(&error, sqlx::Error::Database(e) if e.code().unwrap() == "26"), "{error}");
        let (reader, _writer) = reader(&directory);
        let error = read_failed(reader.short("SELECT missing FROM t", &[]).unwrap().unwrap_err());
        assert_eq!(error.code(), foundry_core::Code::Internal);
        assert!(error.source().unwrap().to_string().contains("no such column: missing"), "{error:?}");
        let written = reader.short("DELETE FROM t", &[]).unwrap().unwrap_err();
        assert!(matches!(&written, sqlx::Error::Database(e) if e.code().unwrap() == "8"), "{written}");
    }
}
