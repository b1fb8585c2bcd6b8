//! The interface between the writer and a database: one writing connection.

use std::future::Future;

use crate::Row;
use crate::plan::Group;
use crate::value::Bound;

/// Why a flush failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The database refused or failed.
    Database(sqlx::Error),
    /// An operation did not affect its row, or a guard did not hold.
    Unmet,
}

impl From<sqlx::Error> for Failure {
    fn from(e: sqlx::Error) -> Self {
        Self::Database(e)
    }
}

/// Values for the placeholders of a batch.
pub(crate) struct Fill<'a> {
    /// Per write set of the batch: its revisions by reference.
    pub(crate) revisions: &'a [Vec<i64>],
    /// The time of commit in microseconds.
    pub(crate) now: i64,
}

impl<'a> Fill<'a> {
    pub(crate) fn bind<'v>(&self, owner: usize, value: &'v crate::Value) -> Bound<'v> {
        Bound::resolve(value, self.revisions.get(owner).map_or(&[], Vec::as_slice), self.now)
    }
}

/// The results of beginning a transaction.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// The counters' new values, in any order.
    pub(crate) newest: Vec<(String, i64)>,
    /// The time of commit; 0 where it was not requested.
    pub(crate) now: i64,
}

/// A control statement of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Begin,
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackToSavepoint,
}

/// One writing connection. Used by one task only, and never dropped within a transaction unless that task ends.
pub(crate) trait Backend: Send + 'static {
    /// Whether other processes write to the same database.
    const SHARED: bool;

    /// Ensures that there is a working connection.
    fn ready(&mut self) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Drops a connection that failed; [`Backend::ready`] makes a new one.
    fn discard(&mut self);

    /// Begins a transaction, raises the counters like [`Backend::reserve`], and reads the time if that is requested.
    fn begin(
        &mut self,
        scopes: &[(&str, i64)],
        timed: bool,
    ) -> impl Future<Output = Result<Begun, sqlx::Error>> + Send;

    fn control(&mut self, control: Control) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The time for [`crate::Value::Now`].
    fn now(&mut self) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;

    /// Raises the counters by the given amounts, in the given order, and returns the new values
    /// in any order.
    fn reserve(
        &mut self,
        scopes: &[(&str, i64)],
    ) -> impl Future<Output = Result<Vec<(String, i64)>, sqlx::Error>> + Send;

    /// Runs the groups in order.
    fn flush(
        &mut self,
        groups: &[Group<'_>],
        fill: &Fill<'_>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Runs one statement and returns its rows.
    fn rows(
        &mut self,
        sql: &'static str,
        params: &[Bound<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, sqlx::Error>> + Send;

    /// Whether running the batch again may succeed: deadlock, serialization failure.
    fn is_transient(e: &sqlx::Error) -> bool;
}
