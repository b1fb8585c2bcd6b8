//! The reading side: a few connections, each opened when it is first needed, and read transactions on them.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use foundry_core::lock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::reader::Reader;
use crate::stats::Counters;
use crate::{Row, StoreOptions, Value};

/// The reading connections of a store; cloning shares them.
#[derive(Clone)]
pub(crate) struct ReadPool {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    readers: u32,
    acquire_timeout: Duration,
    /// One for each connection that may be in use.
    permits: Arc<Semaphore>,
    /// Connections that are not in use.
    free: Mutex<Vec<Reader>>,
    /// No read may begin any more.
    closing: AtomicBool,
    stats: Arc<Counters>,
}

/// A connection in use. When it is dropped, its transaction ends, and it is free again.
struct Lease {
    reader: Option<Reader>,
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// SQLite ends a transaction after some errors; a read would see another state.
    fn must_be_in_transaction(&self) -> Result<(), sqlx::Error> {
        if self.in_transaction() {
            return Ok(());
        }
        Err(sqlx::Error::Protocol("the transaction of the snapshot has ended".to_owned()))
    }
}

impl Deref for Lease {
    type Target = Reader;

    #[allow(clippy::expect_used)] // only `drop` takes it
    fn deref(&self) -> &Reader {
        self.reader.as_ref().expect("a connection until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A connection in an unknown state must not be used again.
        let Some(reader) =
            self.reader.take().filter(|reader| !std::thread::panicking() && reader.end().is_ok())
        else {
            return;
        };
        let mut free = lock(&self.shared.free);
        if !self.shared.permits.is_closed() {
            free.push(reader);
        }
    }
}

impl Shared {
    /// A connection without waiting, if one is free.
    fn at_once(self: &Arc<Self>) -> Option<Lease> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let reader = lock(&self.free).pop()?;
        Some(self.lease(reader, permit))
    }

    /// A connection as soon as there may be one more.
    async fn in_turn(self: &Arc<Self>) -> Result<Lease, sqlx::Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        if self.closing.load(Ordering::Acquire) {
            return Err(sqlx::Error::PoolClosed);
        }
        let free = lock(&self.free).pop();
        if let Some(reader) = free {
            return Ok(self.lease(reader, permit));
        }
        let shared = Arc::clone(self);
        blocking(move || Reader::open(&shared.path).map(|reader| shared.lease(reader, permit))).await?
    }

    fn lease(self: &Arc<Self>, reader: Reader, permit: OwnedSemaphorePermit) -> Lease {
        Lease { reader: Some(reader), shared: Arc::clone(self), _permit: permit }
    }

    /// Runs a read that is too long for the thread of its caller.
    async fn elsewhere(
        &self,
        read: impl FnOnce(&Weak<()>) -> Result<Vec<Row>, sqlx::Error> + Send + 'static,
    ) -> Result<Vec<Row>, sqlx::Error> {
        self.stats.long_reads.fetch_add(1, Ordering::Relaxed);
        // Gone as soon as the caller drops this future.
        let caller = Arc::new(());
        let awaited = Arc::downgrade(&caller);
        let rows = blocking(move || read(&awaited)).await?;
        drop(caller);
        rows
    }
}

impl ReadPool {
    pub(super) fn new(path: &Path, options: &StoreOptions, stats: Arc<Counters>) -> Self {
        let shared = Shared {
            path: path.to_owned(),
            readers: options.readers,
            acquire_timeout: options.acquire_timeout,
            permits: Arc::new(Semaphore::new(options.readers as usize)),
            free: Mutex::default(),
            closing: AtomicBool::new(false),
            stats,
        };
        Self { shared: Arc::new(shared) }
    }

    async fn lease(&self) -> Result<Lease, sqlx::Error> {
        // Reads that never wait would keep their task from ever yielding to others.
        tokio::task::coop::consume_budget().await;
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(sqlx::Error::PoolClosed);
        }
        if let Some(lease) = self.shared.at_once() {
            return Ok(lease);
        }
        let waiting = tokio::time::timeout(self.shared.acquire_timeout, self.shared.in_turn());
        waiting.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Runs one reading statement.
    pub(crate) async fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, sqlx::Error> {
        let lease = self.lease().await?;
        if let Some(answer) = lease.short(sql, params) {
            return answer;
        }
        let params = params.to_vec();
        self.shared.elsewhere(move |awaited| lease.long(sql, &params, awaited)).await
    }

    /// Begins a read transaction, which sees what is committed now.
    pub(crate) async fn transaction(&self) -> Result<ReadTransaction, sqlx::Error> {
        let lease = self.lease().await?;
        lease.begin()?;
        let transaction = ReadTransaction { lease: Arc::new(tokio::sync::Mutex::new(lease)) };
        // The first read fixes the snapshot.
        transaction.query("SELECT 1 FROM store_meta LIMIT 1", &[]).await?;
        Ok(transaction)
    }

    /// Lets no read begin any more, waits for those that run, and closes the file. Returns false when some still ran
    /// after `limit`: a transaction then reads nothing more, and each closes its connection when it ends.
    pub(crate) async fn close(&self, limit: Duration) -> bool {
        let shared = &self.shared;
        shared.closing.store(true, Ordering::Release);
        let all = tokio::time::timeout(limit, shared.permits.acquire_many(shared.readers)).await.is_ok();
        shared.permits.close();
        let free = std::mem::take(&mut *lock(&shared.free));
        // The last connection copies the log into the database.
        let closed = tokio::time::timeout(limit, blocking(move || drop(free))).await;
        all && closed.is_ok()
    }
}

/// A read transaction on a connection of its own; dropping it ends it.
pub(crate) struct ReadTransaction {
    /// A long read keeps it until that has ended, also when its caller has gone away.
    lease: Arc<tokio::sync::Mutex<Lease>>,
}

impl ReadTransaction {
    /// Runs one reading statement.
    pub(crate) async fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, sqlx::Error> {
        let lease = Arc::clone(&self.lease).lock_owned().await;
        if lease.shared.permits.is_closed() {
            return Err(sqlx::Error::PoolClosed);
        }
        lease.must_be_in_transaction()?;
        if let Some(answer) = lease.short(sql, params) {
            return answer;
        }
        lease.must_be_in_transaction()?;
        let (shared, params) = (Arc::clone(&lease.shared), params.to_vec());
        shared.elsewhere(move |awaited| lease.long(sql, &params, awaited)).await
    }
}

/// Runs work on a thread that it may block. A panic goes on in the caller, as it would without the other thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, sqlx::Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        // The runtime ends.
        Err(_) => Err(sqlx::Error::PoolClosed),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::*;
    use crate::migration::STORE;

    const READ: &str = "SELECT count(*) AS n FROM store_meta";
    /// A million rows.
    const LONG: &str = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000) \
         SELECT max(n) AS n FROM c";

    async fn opened(directory: &TempDir, options: &StoreOptions) -> (Connection, ReadPool) {
        let url = format!("sqlite:{}", directory.path().join("x.db").display());
        super::super::open(&url, &[&STORE], options, &Arc::default()).await.unwrap()
    }

    async fn n(pool: &ReadPool, sql: &'static str) -> i64 {
        pool.query(sql, &[]).await.unwrap()[0].int("n").unwrap()
    }

    #[tokio::test]
    async fn a_short_read_is_answered_where_it_was_asked_and_a_long_one_is_not() {
        let directory = TempDir::new().unwrap();
        let (_writer, pool) = opened(&directory, &StoreOptions::default()).await;
        n(&pool, READ).await;
        assert!(pool.query(READ, &[]).now_or_never().is_some(), "a short read waited for something");
        assert_eq!(pool.shared.stats.read().long_reads, 0);
        let mut long = Box::pin(pool.query(LONG, &[]));
        assert!(long.as_mut().now_or_never().is_none(), "a long read held the thread of its caller");
        assert_eq!(long.await.unwrap()[0].int("n").unwrap(), 1_000_000);
        assert_eq!(pool.shared.stats.read().long_reads, 1);
    }

    #[tokio::test]
    async fn a_large_value_is_read_elsewhere() {
        let directory = TempDir::new().unwrap();
        let (_writer, pool) = opened(&directory, &StoreOptions::default()).await;
        let rows = pool.query("SELECT zeroblob(1000000) AS b", &[]).await.unwrap();
        assert_eq!(rows[0].blob("b").unwrap().len(), 1_000_000);
        assert_eq!(pool.shared.stats.read().long_reads, 1);
    }

    #[tokio::test]
    async fn reads_that_never_wait_let_others_have_their_turn() {
        let directory = TempDir::new().unwrap();
        let (_writer, pool) = opened(&directory, &StoreOptions::default()).await;
        n(&pool, READ).await;
        let turn = Arc::new(AtomicBool::new(false));
        let taken = Arc::clone(&turn);
        let (tasks, _) = foundry_core::Tasks::new();
        tasks.spawn("other", async move { taken.store(true, Ordering::Relaxed) });
        for _ in 0..1000 {
            n(&pool, READ).await;
        }
        assert!(turn.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn waits_for_a_connection_no_longer_than_it_may() {
        let directory = TempDir::new().unwrap();
        let options = StoreOptions { readers: 1, acquire_timeout: Duration::ZERO, ..StoreOptions::default() };
        let (_writer, pool) = opened(&directory, &options).await;
        let reader = Reader::open(&pool.shared.path).unwrap();
        lock(&pool.shared.free).push(reader);
        let transaction = pool.transaction().await.unwrap();
        assert!(matches!(pool.query(READ, &[]).await, Err(sqlx::Error::PoolTimedOut)));
        drop(transaction);
        n(&pool, READ).await;
        assert_eq!(lock(&pool.shared.free).len(), 1);
    }

    #[tokio::test]
    async fn every_connection_comes_back_from_callers_that_go_away() {
        let directory = TempDir::new().unwrap();
        let options = StoreOptions { readers: 2, ..StoreOptions::default() };
        let (_writer, pool) = opened(&directory, &options).await;
        const MANY: &str =
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 100000) SELECT n FROM c";
        n(&pool, READ).await;
        for round in 0..20 {
            let transaction = pool.transaction().await.unwrap();
            let mut read = Box::pin(async {
                if round % 2 == 0 { pool.query(MANY, &[]).await } else { transaction.query(MANY, &[]).await }
            });
            // Given up when it has begun.
            assert!(read.as_mut().now_or_never().is_none());
        }
        assert!(pool.close(Duration::from_secs(60)).await);
        assert!(matches!(pool.query(READ, &[]).await, Err(sqlx::Error::PoolClosed)));
    }

    #[tokio::test]
    async fn a_read_transaction_outlives_a_long_read_but_not_its_own_end() {
        let directory = TempDir::new().unwrap();
        let (writer, pool) = opened(&directory, &StoreOptions::default()).await;
        let transaction = pool.transaction().await.unwrap();
        let insert = "INSERT INTO store_meta (name, value) VALUES ('a', 'b')";
        writer.execute_batch(insert).unwrap();
        assert_eq!(transaction.query(LONG, &[]).await.unwrap()[0].int("n").unwrap(), 1_000_000);
        assert_eq!(pool.shared.stats.read().long_reads, 1);
        assert_eq!(transaction.query(READ, &[]).await.unwrap()[0].int("n").unwrap(), 0);
        assert_eq!(n(&pool, READ).await, 1);
        transaction.lease.lock().await.end().unwrap();
        assert!(transaction.query(READ, &[]).await.is_err(), "a read saw another state");
    }

    #[tokio::test]
    async fn a_close_waits_for_its_reads_and_then_closes_the_file() {
        let directory = TempDir::new().unwrap();
        let (writer, pool) = opened(&directory, &StoreOptions::default()).await;
        let log = directory.path().join("x.db-wal");
        let transaction = pool.transaction().await.unwrap();
        writer.close().unwrap();
        let mut closing = Box::pin(pool.close(Duration::from_secs(60)));
        assert!(closing.as_mut().now_or_never().is_none());
        assert!(matches!(pool.query(READ, &[]).await, Err(sqlx::Error::PoolClosed)));
        assert_eq!(transaction.query(READ, &[]).await.unwrap()[0].int("n").unwrap(), 0);
        assert!(log.exists());
        drop(transaction);
        assert!(closing.await);
        assert!(!log.exists(), "a connection is still open");
    }

    #[tokio::test]
    async fn what_outlives_a_close_ends_and_then_closes_the_file() {
        let directory = TempDir::new().unwrap();
        let (writer, pool) = opened(&directory, &StoreOptions::default()).await;
        let log = directory.path().join("x.db-wal");
        let transaction = pool.transaction().await.unwrap();
        writer.close().unwrap();
        assert!(!pool.close(Duration::ZERO).await);
        assert!(matches!(transaction.query(READ, &[]).await, Err(sqlx::Error::PoolClosed)));
        assert!(log.exists());
        drop(transaction);
        assert!(!log.exists(), "a connection is still open");
    }
}
