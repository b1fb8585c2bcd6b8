//! PostgreSQL: one writing connection for write sets, a pool for reads and single statements.

mod reading;
mod sql;
mod writing;

use bytes::Bytes;
use foundry_core::Error;
use sqlx::encode::IsNull;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow, PgTypeInfo,
};
use sqlx::{
    Arguments as _, Column as _, ConnectOptions as _, Connection as _, Encode, Executor as _, Postgres,
    Row as _, Type, TypeInfo as _, ValueRef as _,
};

use crate::migration::{Dialect, Migrations};
use crate::value::Bound;
use crate::{Row, StoreOptions, Value};

pub(crate) use reading::{now, query, serve_snapshot, write};
pub(crate) use writing::PostgresBackend;

/// Migrates the schema and returns the options for the writing connection, and the pool.
pub(crate) async fn open(
    url: &str,
    migrations: &[&Migrations],
    options: &StoreOptions,
) -> Result<(PgConnectOptions, PgPool), Error> {
    let connect = url
        .parse::<PgConnectOptions>()
        .map_err(Error::internal)?
        .disable_statement_logging()
        .statement_cache_capacity(1024)
        .options([
            // A process that hangs within a transaction must not keep its locks for ever.
            ("idle_in_transaction_session_timeout", "10s"),
            // Suppresses the warning for the roll-back at each acquire.
            ("client_min_messages", "error"),
        ]);
    let mut connection = connect.connect().await.map_err(Error::internal)?;
    for list in migrations {
        list.migrator(Dialect::Postgres).run(&mut connection).await.map_err(Error::internal)?;
    }
    connection.close().await.map_err(Error::internal)?;
    let pool = PgPoolOptions::new()
        .max_connections(options.readers)
        .acquire_timeout(options.acquire_timeout)
        // A future that is dropped within a BEGIN returns its connection with an open transaction, and its next user
        // would lose an acknowledged write. The roll-back also serves as a ping.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(async move { roll_back(connection).await.map(|()| true) }))
        .connect_lazy_with(connect.clone());
    Ok((connect, pool))
}

async fn roll_back(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute("ROLLBACK").await.map(drop)
}

/// A NULL whose type the server infers from its context.
struct Untyped;

impl Type<Postgres> for Untyped {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl Encode<'_, Postgres> for Untyped {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, sqlx::error::BoxDynError> {
        Ok(IsNull::Yes)
    }
}

fn arguments(params: &[Bound<'_>]) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    arguments.reserve(params.len(), params.len() * 16);
    for param in params {
        match *param {
            Bound::Null => arguments.add(Untyped),
            Bound::Text(s) => arguments.add(s),
            Bound::Int(i) => arguments.add(i),
            Bound::Blob(b) => arguments.add(&b[..]),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn rows(rows: &[PgRow]) -> Result<Vec<Row>, sqlx::Error> {
    Row::all(rows, value)
}

fn value(row: &PgRow, i: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(i)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    match raw.type_info().name() {
        "TEXT" | "VARCHAR" | "NAME" | "UNKNOWN" => row.try_get_unchecked(i).map(Value::Text),
        "INT8" | "INT4" | "INT2" => row.try_get_unchecked(i).map(Value::Int),
        "BYTEA" => row.try_get_unchecked::<Vec<u8>, _>(i).map(|b| Value::Blob(Bytes::from(b))),
        "BOOL" => row.try_get_unchecked::<bool, _>(i).map(Value::from),
        other => Err(sqlx::Error::Protocol(format!(
            "column {} has the type {other}: cast it to TEXT, BIGINT or BYTEA",
            row.columns().get(i).map_or("?", |c| c.name())
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use foundry_testkit::PostgresDatabase;

    use super::*;
    use crate::migration::STORE;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn loses_no_write_to_a_transaction_that_a_dropped_future_left_open() {
        let url = PostgresDatabase::create().await.unwrap().url;
        let options = StoreOptions { readers: 2, ..StoreOptions::default() };
        let (_, pool) = open(&url, &[&STORE], &options).await.unwrap();
        for i in 0..400_i64 {
            // Dropped at some point between sending BEGIN and receiving the answer.
            let patience = Duration::from_micros(u64::try_from(i).unwrap() % 200);
            let _ = tokio::time::timeout(patience, pool.begin()).await;
            let mut connection = pool.acquire().await.unwrap();
            let sql = "INSERT INTO store_scopes (scope, rev) VALUES ($1, 1)";
            query(&mut connection, sql, &[i.to_string().into()]).await.unwrap();
        }
        pool.close().await;
        let (_, pool) = open(&url, &[&STORE], &options).await.unwrap();
        let mut connection = pool.acquire().await.unwrap();
        let rows = query(&mut connection, "SELECT count(*) AS n FROM store_scopes", &[]).await.unwrap();
        assert_eq!(rows[0].int("n").unwrap(), 400);
    }
}
