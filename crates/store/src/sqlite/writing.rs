//! The one writing connection. Its statements run on the writer's own thread.

use std::collections::HashMap;
use std::sync::Arc;

use foundry_core::Clock;
use rusqlite::Connection;

use super::reader::{bind_at, failed, read};
use super::sql;
use crate::Row;
use crate::backend::{Backend, Begun, Control, Failure, Fill};
use crate::plan::{Group, PlannedRow};
use crate::shape::Shape;
use crate::value::Bound;

pub(crate) struct SqliteBackend {
    connection: Connection,
    clock: Arc<dyn Clock>,
    texts: HashMap<Shape, Box<str>>,
}

impl SqliteBackend {
    pub(crate) fn new(connection: Connection, clock: Arc<dyn Clock>) -> Self {
        Self { connection, clock, texts: HashMap::new() }
    }

    /// Runs the operations of one shape, and compares the rows that each affected with what it must.
    fn run(&mut self, shape: &Shape, rows: &[PlannedRow<'_>], fill: &Fill<'_>) -> Result<(), Failure> {
        if !self.texts.contains_key(shape) {
            self.texts.insert(shape.clone(), sql::text(shape).into());
        }
        let Some(text) = self.texts.get(shape) else { return Ok(()) };
        let mut statement = self.connection.prepare_cached(text).map_err(failed)?;
        for row in rows {
            for (i, value) in row.operation.values.iter().enumerate() {
                bind_at(&mut statement, i + 1, fill.bind(row.owner, value))?;
            }
            let hits = if shape.is_guard() {
                usize::from(statement.raw_query().next().map_err(failed)?.is_some())
            } else {
                statement.raw_execute().map_err(failed)?
            };
            if (shape.is_exact() || shape.is_row()) && hits != 1 {
                return Err(Failure::Unmet);
            }
        }
        Ok(())
    }

    fn raise(&self, scopes: &[(&str, i64)]) -> Result<Vec<(String, i64)>, sqlx::Error> {
        let mut statement = self.connection.prepare_cached(sql::RESERVE).map_err(failed)?;
        let mut newest = Vec::with_capacity(scopes.len());
        for (scope, amount) in scopes {
            bind_at(&mut statement, 1, Bound::Text(scope))?;
            bind_at(&mut statement, 2, Bound::Int(*amount))?;
            let mut rows = statement.raw_query();
            // Run to its end: a statement that is reset before is undone.
            while let Some(row) = rows.next().map_err(failed)? {
                newest.push(((*scope).to_owned(), row.get(0).map_err(failed)?));
            }
        }
        Ok(newest)
    }

    fn run_control(&self, control: Control) -> Result<(), sqlx::Error> {
        let text = match control {
            // A deferred transaction that begins with a read fails with BUSY at its first write.
            Control::Begin => "BEGIN IMMEDIATE",
            Control::Commit => "COMMIT",
            Control::Rollback => "ROLLBACK",
            Control::Savepoint => "SAVEPOINT request",
            Control::Release => "RELEASE request",
            Control::RollbackToSavepoint => "ROLLBACK TO request",
        };
        let mut statement = self.connection.prepare_cached(text).map_err(failed)?;
        statement.raw_execute().map(drop).map_err(failed)
    }
}

impl Backend for SqliteBackend {
    const SHARED: bool = false;

    async fn ready(&mut self) -> Result<(), sqlx::Error> {
        Ok(())
    }

    fn discard(&mut self) {
        // A local file has no connection to lose.
    }

    async fn begin(&mut self, scopes: &[(&str, i64)], timed: bool) -> Result<Begun, sqlx::Error> {
        let now = if timed { self.clock.now().as_micros() } else { 0 };
        self.run_control(Control::Begin)?;
        Ok(Begun { newest: self.raise(scopes)?, now })
    }

    async fn control(&mut self, control: Control) -> Result<(), sqlx::Error> {
        self.run_control(control)
    }

    async fn now(&mut self) -> Result<i64, sqlx::Error> {
        Ok(self.clock.now().as_micros())
    }

    async fn reserve(&mut self, scopes: &[(&str, i64)]) -> Result<Vec<(String, i64)>, sqlx::Error> {
        self.raise(scopes)
    }

    async fn flush(&mut self, groups: &[Group<'_>], fill: &Fill<'_>) -> Result<(), Failure> {
        groups.iter().try_for_each(|group| self.run(group.shape, &group.rows, fill))
    }

    async fn rows(&mut self, sql: &'static str, params: &[Bound<'_>]) -> Result<Vec<Row>, sqlx::Error> {
        read(&self.connection, sql, params, |_| true).map(Option::unwrap_or_default)
    }

    fn is_transient(_: &sqlx::Error) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreOptions;

    #[tokio::test]
    async fn survives_a_power_cut_by_its_settings() {
        // A kill cannot show this: with synchronous = NORMAL, acknowledged writes are lost at a power cut.
        let directory = tempfile::TempDir::new().unwrap();
        let url = format!("sqlite:{}", directory.path().join("store.db").display());
        let options = StoreOptions::default();
        let (connection, _) = super::super::open(&url, &[], &options, &Arc::default()).await.unwrap();
        let full: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        let journal: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!((full, journal.as_str()), (2, "wal"));
    }

    #[tokio::test]
    async fn takes_the_write_lock_before_it_reads() {
        let directory = tempfile::TempDir::new().unwrap();
        let url = format!("sqlite:{}", directory.path().join("store.db").display());
        let (options, stats) = (StoreOptions::default(), Arc::default());
        let clock: Arc<dyn Clock> = Arc::new(foundry_core::SystemClock);
        let lists = [&crate::migration::STORE];
        let (first, _) = super::super::open(&url, &lists, &options, &stats).await.unwrap();
        let (second, _) = super::super::open(&url, &[], &options, &stats).await.unwrap();
        let mut first = SqliteBackend::new(first, Arc::clone(&clock));
        let mut second = SqliteBackend::new(second, clock);
        second.connection.busy_timeout(std::time::Duration::ZERO).unwrap();
        first.begin(&[], false).await.unwrap();
        assert!(second.begin(&[], false).await.is_err(), "two transactions may write");
        first.control(Control::Rollback).await.unwrap();
        assert_eq!(second.begin(&[("s", 2)], false).await.unwrap().newest, [("s".to_owned(), 2)]);
        assert!(first.control(Control::Commit).await.is_err(), "a commit without a transaction");
    }
}
