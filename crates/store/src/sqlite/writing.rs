//! The one writing connection.

use std::collections::HashMap;
use std::sync::Arc;

use foundry_core::Clock;
use futures::TryStreamExt as _;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Either, Executor as _, Row as _};

use super::sql::{self, MAX_PARAMS, MAX_ROWS};
use super::{arguments, rows};
use crate::Row;
use crate::backend::{Backend, Control, Failure, Fill};
use crate::plan::Group;
use crate::shape::{Action, Shape};
use crate::value::Bound;

pub(crate) struct SqliteBackend {
    connection: SqliteConnection,
    clock: Arc<dyn Clock>,
    /// Texts by shape and by the binary logarithm of the row count.
    texts: HashMap<Shape, Vec<Option<Arc<str>>>>,
    reserves: HashMap<usize, Arc<str>>,
}

impl SqliteBackend {
    pub(crate) fn new(connection: SqliteConnection, clock: Arc<dyn Clock>) -> Self {
        Self { connection, clock, texts: HashMap::new(), reserves: HashMap::new() }
    }

    fn text(&mut self, shape: &Shape, log: usize) -> Arc<str> {
        if !self.texts.contains_key(shape) {
            self.texts.insert(shape.clone(), Vec::new());
        }
        let Some(texts) = self.texts.get_mut(shape) else { return Arc::from("") };
        if texts.len() <= log {
            texts.resize(log + 1, None);
        }
        Arc::clone(texts[log].get_or_insert_with(|| sql::text(shape, 1 << log).into()))
    }

    /// Runs a text and counts the rows it hit, or returned where it is a guard.
    async fn run(&mut self, sql: Arc<str>, args: SqliteArguments, guard: bool) -> Result<u64, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(sql), args);
        let mut results = self.connection.fetch_many(query);
        let mut hits = 0;
        while let Some(step) = results.try_next().await? {
            hits += match step {
                Either::Left(done) if !guard => done.rows_affected(),
                Either::Right(_) if guard => 1,
                _ => 0,
            };
        }
        Ok(hits)
    }

    async fn flush_group(&mut self, group: &Group<'_>, fill: &Fill<'_>) -> Result<(), Failure> {
        let shape = group.shape;
        let width = shape.bound_columns().len() + usize::from(matches!(shape.action, Action::CountBelow(_)));
        let most = MAX_ROWS.min(MAX_PARAMS / width.max(1)).max(1);
        let mut rest = &group.rows[..];
        let mut params = Vec::with_capacity(rest.len().min(most) * width);
        while !rest.is_empty() {
            // Row counts are powers of two, so that few texts are prepared and all are reused.
            let log = rest.len().min(most).ilog2() as usize;
            let (chunk, later) = rest.split_at(1 << log);
            rest = later;
            params.clear();
            for row in chunk {
                params.extend(row.operation.values.iter().map(|v| fill.bind(row.owner, v)));
            }
            let sql = self.text(shape, log);
            let hits = self.run(sql, arguments(&params)?, shape.is_guard()).await?;
            if shape.is_exact() && hits != chunk.len() as u64 {
                return Err(Failure::Unmet);
            }
        }
        Ok(())
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

    async fn control(&mut self, control: Control) -> Result<(), sqlx::Error> {
        let sql = match control {
            // A deferred transaction that reads first fails with BUSY at its first write.
            Control::Begin => "BEGIN IMMEDIATE",
            Control::Commit => "COMMIT",
            Control::Rollback => "ROLLBACK",
            Control::Savepoint => "SAVEPOINT request",
            Control::Release => "RELEASE request",
            Control::RollbackToSavepoint => "ROLLBACK TO request",
        };
        sqlx::query(sql).execute(&mut self.connection).await.map(drop)
    }

    async fn now(&mut self) -> Result<i64, sqlx::Error> {
        Ok(self.clock.now().as_micros())
    }

    async fn reserve(&mut self, scopes: &[(&str, i64)]) -> Result<Vec<(String, i64)>, sqlx::Error> {
        let mut newest = Vec::with_capacity(scopes.len());
        let mut rest = scopes;
        while !rest.is_empty() {
            let n = 1 << rest.len().min(MAX_ROWS).ilog2();
            let (chunk, later) = rest.split_at(n);
            rest = later;
            let params: Vec<Bound<'_>> =
                chunk.iter().flat_map(|(s, n)| [Bound::Text(s), Bound::Int(*n)]).collect();
            let sql = Arc::clone(self.reserves.entry(n).or_insert_with(|| sql::reserve(n).into()));
            let query = sqlx::query_with(AssertSqlSafe(sql), arguments(&params)?);
            for row in query.fetch_all(&mut self.connection).await? {
                newest.push((row.try_get(0)?, row.try_get(1)?));
            }
        }
        Ok(newest)
    }

    async fn flush(&mut self, groups: &[Group<'_>], fill: &Fill<'_>) -> Result<(), Failure> {
        for group in groups {
            self.flush_group(group, fill).await?;
        }
        Ok(())
    }

    async fn rows(&mut self, sql: &'static str, params: &[Bound<'_>]) -> Result<Vec<Row>, sqlx::Error> {
        let found = sqlx::query_with(sql, arguments(params)?).fetch_all(&mut self.connection).await?;
        rows(&found)
    }

    fn is_transient(_: &sqlx::Error) -> bool {
        false
    }
}
