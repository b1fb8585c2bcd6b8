//! The one writing connection.

use std::collections::HashMap;
use std::sync::Arc;

use foundry_core::Clock;
use futures::TryStreamExt as _;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Either, Executor as _, Row as _};

use super::sql::{self, MAX_PARAMS, MAX_ROWS};
use super::{arguments, rows};
use crate::Row;
use crate::backend::{Backend, Begun, Control, Failure, Fill};
use crate::plan::{Group, PlannedRow};
use crate::shape::Shape;
use crate::value::Bound;

/// Up to this many rows, a round is executed as one text with all its statements, passed to the connection's thread
/// once. The texts of larger rounds vary too much to be reused.
const MAX_FUSED: usize = 24;

pub(crate) struct SqliteBackend {
    connection: SqliteConnection,
    clock: Arc<dyn Clock>,
    /// Texts by shape and by row count.
    texts: HashMap<Shape, Vec<(usize, Arc<str>)>>,
    reserves: HashMap<(usize, bool), Arc<str>>,
}

/// The number of rows that one statement of a text must affect.
struct Expected {
    guard: bool,
    hits: Option<u64>,
}

/// Statements that are passed to the connection's thread together.
#[derive(Default)]
struct Script<'a> {
    expected: Vec<Expected>,
    params: Vec<Bound<'a>>,
}

impl<'a> Script<'a> {
    fn add(&mut self, shape: &Shape, chunk: &[PlannedRow<'a>], fill: &Fill<'_>) {
        for row in chunk {
            self.params.extend(row.operation.values.iter().map(|v| fill.bind(row.owner, v)));
        }
        let (guard, exact) = (shape.is_guard(), shape.is_exact());
        if shape.is_row() {
            self.expected.push(Expected { guard, hits: Some(chunk.len() as u64) });
        } else {
            let one = || Expected { guard, hits: exact.then_some(1) };
            self.expected.extend(std::iter::repeat_with(one).take(chunk.len()));
        }
    }
}

/// How many of the remaining rows one statement takes: a multiple of eight, or the rest below that. So few texts are
/// prepared, all of them are reused, and a group mostly needs two statements.
fn chunk(left: usize, width: usize) -> usize {
    let most = left.min(MAX_ROWS).min(MAX_PARAMS / width.max(1)).max(1);
    if most < 8 { most } else { most - most % 8 }
}

/// The number of parameters per row of a group.
fn width(group: &Group<'_>) -> usize {
    group.rows.first().map_or(1, |r| r.operation.values.len())
}

impl SqliteBackend {
    pub(crate) fn new(connection: SqliteConnection, clock: Arc<dyn Clock>) -> Self {
        Self { connection, clock, texts: HashMap::new(), reserves: HashMap::new() }
    }

    fn text(&mut self, shape: &Shape, n: usize) -> Arc<str> {
        if !self.texts.contains_key(shape) {
            self.texts.insert(shape.clone(), Vec::new());
        }
        let Some(texts) = self.texts.get_mut(shape) else { return Arc::from("") };
        if let Some((_, text)) = texts.iter().find(|(rows, _)| *rows == n) {
            return Arc::clone(text);
        }
        let text: Arc<str> = sql::text(shape, n).into();
        texts.push((n, Arc::clone(&text)));
        text
    }

    /// Runs a text and compares the rows that its statements affected with what they must.
    async fn run(&mut self, sql: Arc<str>, script: &Script<'_>) -> Result<(), Failure> {
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments(&script.params)?);
        let mut results = self.connection.fetch_many(query);
        let mut expected = script.expected.iter();
        let (mut found, mut met) = (0, true);
        while let Some(step) = results.try_next().await? {
            match step {
                Either::Right(_) => found += 1,
                Either::Left(done) => {
                    let Some(Expected { guard, hits }) = expected.next() else { break };
                    let hit = if *guard { found } else { done.rows_affected() };
                    met &= hits.is_none_or(|hits| hits == hit);
                    found = 0;
                }
            }
        }
        if met && expected.next().is_none() { Ok(()) } else { Err(Failure::Unmet) }
    }

    async fn flush_fused(&mut self, groups: &[Group<'_>], fill: &Fill<'_>) -> Result<(), Failure> {
        let mut all = String::new();
        let mut script = Script::default();
        for group in groups {
            let mut rest = &group.rows[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(chunk(rest.len(), width(group)));
                rest = later;
                all.push_str(&self.text(group.shape, now.len()));
                all.push(';');
                script.add(group.shape, now, fill);
            }
        }
        self.run(all.into(), &script).await
    }

    async fn flush_group(&mut self, group: &Group<'_>, fill: &Fill<'_>) -> Result<(), Failure> {
        let mut rest = &group.rows[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(chunk(rest.len(), width(group)));
            rest = later;
            let mut script = Script::default();
            script.add(group.shape, now, fill);
            let sql = self.text(group.shape, now.len());
            self.run(sql, &script).await?;
        }
        Ok(())
    }

    /// Raises the counters, after a BEGIN in the same text if wanted.
    async fn raise(
        &mut self,
        begin: bool,
        scopes: &[(&str, i64)],
    ) -> Result<Vec<(String, i64)>, sqlx::Error> {
        let params: Vec<Bound<'_>> =
            scopes.iter().flat_map(|(s, n)| [Bound::Text(s), Bound::Int(*n)]).collect();
        let text = self.reserves.entry((scopes.len(), begin)).or_insert_with(|| {
            let before = if begin { BEGIN } else { "" };
            format!("{before}{}", sql::reserve(scopes.len())).into()
        });
        let query = sqlx::query_with(AssertSqlSafe(Arc::clone(text)), arguments(&params)?);
        let mut results = self.connection.fetch_many(query);
        let mut newest = Vec::with_capacity(scopes.len());
        while let Some(step) = results.try_next().await? {
            if let Either::Right(row) = step {
                newest.push((row.try_get(0)?, row.try_get(1)?));
            }
        }
        Ok(newest)
    }
}

// A deferred transaction that begins with a read fails with BUSY at its first write.
const BEGIN: &str = "BEGIN IMMEDIATE;";

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
        if scopes.is_empty() {
            self.control(Control::Begin).await?;
            return Ok(Begun { newest: Vec::new(), now });
        }
        let (head, tail) = scopes.split_at(chunk(scopes.len(), 2));
        let mut newest = self.raise(true, head).await?;
        if !tail.is_empty() {
            newest.extend(self.reserve(tail).await?);
        }
        Ok(Begun { newest, now })
    }

    async fn control(&mut self, control: Control) -> Result<(), sqlx::Error> {
        let sql = match control {
            Control::Begin => BEGIN,
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
            let (now, later) = rest.split_at(chunk(rest.len(), 2));
            rest = later;
            newest.extend(self.raise(false, now).await?);
        }
        Ok(newest)
    }

    async fn flush(&mut self, groups: &[Group<'_>], fill: &Fill<'_>) -> Result<(), Failure> {
        let rows: usize = groups.iter().map(|g| g.rows.len()).sum();
        let alone = groups.iter().flat_map(|g| &g.rows).all(|r| r.owner == groups[0].rows[0].owner);
        if rows > 1 && rows <= MAX_FUSED && alone {
            return self.flush_fused(groups, fill).await;
        }
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
        let (mut connection, _) = super::super::open(&url, &[], &options, &Arc::default()).await.unwrap();
        let full: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut connection).await.unwrap();
        let journal: String =
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.unwrap();
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
        sqlx::query("PRAGMA busy_timeout = 0").execute(&mut second.connection).await.unwrap();
        first.begin(&[], false).await.unwrap();
        assert!(second.begin(&[], false).await.is_err(), "two transactions may write");
        first.control(Control::Rollback).await.unwrap();
        assert_eq!(second.begin(&[("s", 2)], false).await.unwrap().newest, [("s".to_owned(), 2)]);
        assert!(first.control(Control::Commit).await.is_err(), "a commit without a transaction");
    }
}
