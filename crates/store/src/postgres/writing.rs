//! The one connection of this process that commits write sets. Other processes have their own.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foundry_core::Clock;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection};
use sqlx::{Arguments as _, AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};

use super::reading::NOW_SQL;
use super::sql::{self, Kind, Text, Types};
use super::{arguments, rows};
use crate::Row;
use crate::backend::{Backend, Begun, Control, Failure, Fill};
use crate::plan::Group;
use crate::shape::{Action, Shape};
use crate::value::Bound;

pub(crate) struct PostgresBackend {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    clock: Option<Arc<dyn Clock>>,
    types: Types,
    texts: HashMap<Shape, Text>,
}

impl PostgresBackend {
    pub(crate) fn new(options: PgConnectOptions, clock: Option<Arc<dyn Clock>>) -> Self {
        Self { options, connection: None, clock, types: Types::new(), texts: HashMap::new() }
    }

    /// The time of the injected clock, if there is one, else the database's.
    fn time(&self, of_database: i64) -> i64 {
        self.clock.as_ref().map_or(of_database, |c| c.now().as_micros())
    }

    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.as_mut().ok_or_else(|| sqlx::Error::Io(std::io::ErrorKind::NotConnected.into()))
    }

    /// Raises the counters, and reads the time in the same statement.
    async fn raise(&mut self, scopes: &[(&str, i64)]) -> Result<Begun, sqlx::Error> {
        let (names, amounts): (Vec<&str>, Vec<i64>) = scopes.iter().copied().unzip();
        let query = sqlx::query(sql::RESERVE).bind(names).bind(amounts);
        let found = query.fetch_all(self.connection()?).await?;
        let mut begun = Begun::default();
        for row in found {
            begun.newest.push((row.try_get(0)?, row.try_get(1)?));
            begun.now = self.time(row.try_get(2)?);
        }
        Ok(begun)
    }

    async fn learn_types(&mut self) -> Result<(), sqlx::Error> {
        let found = sqlx::query(sql::COLUMNS).fetch_all(self.connection()?).await?;
        self.types.clear();
        for row in found {
            let (table, column, data_type): (String, String, String) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            if let Some(kind) = Kind::parse(&data_type) {
                self.types.entry(table).or_default().insert(column, kind);
            }
        }
        Ok(())
    }

    /// Prepares the text of a shape; looks up columns that another process may have added.
    async fn know(&mut self, shape: &Shape) -> Result<(), sqlx::Error> {
        if self.texts.contains_key(shape) {
            return Ok(());
        }
        if sql::text(shape, &self.types).is_none() {
            self.learn_types().await?;
        }
        let text = sql::text(shape, &self.types).ok_or_else(|| {
            let (table, columns) = (shape.table.name, shape.bound_columns());
            sqlx::Error::Encode(format!("{table} lacks a TEXT, BIGINT or BYTEA column of {columns:?}").into())
        })?;
        self.texts.insert(shape.clone(), text);
        Ok(())
    }

    /// Serializes checks that no row lock can protect: that something is absent, or how many there are.
    async fn lock_predicates(&mut self, groups: &[Group<'_>], fill: &Fill<'_>) -> Result<(), sqlx::Error> {
        let mut locks = BTreeSet::new();
        for group in groups {
            if matches!(group.shape.action, Action::Absent | Action::CountBelow(_)) {
                let width = group.shape.guards.equal.len();
                for row in &group.rows {
                    let values = row.operation.values.iter().take(width);
                    locks.insert(predicate_hash(group.shape, values.map(|v| fill.bind(row.owner, v))));
                }
            }
        }
        if locks.is_empty() {
            return Ok(());
        }
        let locks: Vec<i64> = locks.into_iter().collect();
        sqlx::query(sql::LOCK).bind(locks).fetch_all(self.connection()?).await.map(drop)
    }

    async fn flush_group(&mut self, group: &Group<'_>, fill: &Fill<'_>) -> Result<(), Failure> {
        let shape = group.shape;
        self.know(shape).await?;
        let Some(Text { sql, kinds }) = self.texts.get(shape) else { return Ok(()) };
        let sql = Arc::clone(sql);
        let mut args = PgArguments::default();
        for (at, kind) in kinds.iter().enumerate() {
            add_array(&mut args, *kind, at, group, fill)?;
        }
        // Without conditions, the statement is the same for every operation.
        let wanted = if kinds.is_empty() { 1 } else { group.rows.len() as u64 };
        let query = sqlx::query_with(AssertSqlSafe(sql), args);
        let hits = if shape.is_guard() {
            query.fetch_all(self.connection()?).await?.len() as u64
        } else {
            query.execute(self.connection()?).await?.rows_affected()
        };
        if shape.is_exact() && hits != wanted { Err(Failure::Unmet) } else { Ok(()) }
    }
}

/// One column of a group as an array parameter.
fn add_array(
    args: &mut PgArguments,
    kind: Kind,
    at: usize,
    group: &Group<'_>,
    fill: &Fill<'_>,
) -> Result<(), sqlx::Error> {
    let table = group.shape.table.name;
    let mistyped = || sqlx::Error::Encode(format!("value {at} of a row of {table} is not {kind:?}").into());
    let values = group
        .rows
        .iter()
        .map(|row| row.operation.values.get(at).map_or(Bound::Null, |v| fill.bind(row.owner, v)));
    match kind {
        Kind::Text => {
            let texts = values.map(|v| match v {
                Bound::Null => Ok(None),
                Bound::Text(s) => Ok(Some(s)),
                _ => Err(mistyped()),
            });
            args.add(texts.collect::<Result<Vec<Option<&str>>, _>>()?)
        }
        Kind::Int => {
            let ints = values.map(|v| match v {
                Bound::Null => Ok(None),
                Bound::Int(i) => Ok(Some(i)),
                _ => Err(mistyped()),
            });
            args.add(ints.collect::<Result<Vec<Option<i64>>, _>>()?)
        }
        Kind::Blob => {
            let blobs = values.map(|v| match v {
                Bound::Null => Ok(None),
                Bound::Blob(b) => Ok(Some(&b[..])),
                _ => Err(mistyped()),
            });
            args.add(blobs.collect::<Result<Vec<Option<&[u8]>>, _>>()?)
        }
    }
    .map_err(sqlx::Error::Encode)
}

/// Must be the same in every process and version, since processes coordinate their locks by it.
fn predicate_hash<'a>(shape: &Shape, values: impl Iterator<Item = Bound<'a>>) -> i64 {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(shape.table.name.as_bytes());
    shape.guards.equal.iter().chain(&shape.guards.null).for_each(|c| part(c.as_bytes()));
    for value in values {
        match value {
            Bound::Null => part(&[]),
            Bound::Text(s) => part(s.as_bytes()),
            Bound::Int(i) => part(&i.to_le_bytes()),
            Bound::Blob(b) => part(b),
        }
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    i64::from_le_bytes(first)
}

/// Whether running the transaction again may succeed: serialization failure or deadlock.
pub(crate) fn is_transient(e: &sqlx::Error) -> bool {
    let code = e.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("40001" | "40P01"))
}

impl Backend for PostgresBackend {
    const SHARED: bool = true;

    async fn ready(&mut self) -> Result<(), sqlx::Error> {
        if self.connection.is_none() {
            self.connection = Some(self.options.connect().await?);
        }
        Ok(())
    }

    fn discard(&mut self) {
        self.connection = None;
    }

    async fn begin(&mut self, scopes: &[(&str, i64)], timed: bool) -> Result<Begun, sqlx::Error> {
        self.control(Control::Begin).await?;
        if scopes.is_empty() {
            let now = if timed { self.now().await? } else { 0 };
            return Ok(Begun { newest: Vec::new(), now });
        }
        self.raise(scopes).await
    }

    async fn control(&mut self, control: Control) -> Result<(), sqlx::Error> {
        let sql = match control {
            Control::Begin => "BEGIN",
            Control::Commit => "COMMIT",
            Control::Rollback => "ROLLBACK",
            Control::Savepoint => "SAVEPOINT request",
            Control::Release => "RELEASE request",
            Control::RollbackToSavepoint => "ROLLBACK TO request",
        };
        self.connection()?.execute(sql).await.map(drop)
    }

    async fn now(&mut self) -> Result<i64, sqlx::Error> {
        let now: i64 = sqlx::query(NOW_SQL).fetch_one(self.connection()?).await?.try_get(0)?;
        Ok(self.time(now))
    }

    async fn reserve(&mut self, scopes: &[(&str, i64)]) -> Result<Vec<(String, i64)>, sqlx::Error> {
        self.raise(scopes).await.map(|begun| begun.newest)
    }

    async fn flush(&mut self, groups: &[Group<'_>], fill: &Fill<'_>) -> Result<(), Failure> {
        self.lock_predicates(groups, fill).await?;
        for group in groups {
            self.flush_group(group, fill).await?;
        }
        Ok(())
    }

    async fn rows(&mut self, sql: &'static str, params: &[Bound<'_>]) -> Result<Vec<Row>, sqlx::Error> {
        let query = sqlx::query_with(sql, arguments(params)?);
        let found = query.fetch_all(self.connection()?).await?;
        rows(&found)
    }

    fn is_transient(e: &sqlx::Error) -> bool {
        is_transient(e)
    }
}
