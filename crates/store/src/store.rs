//! The store itself: connect, commit, read, subscribe, close.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foundry_core::{Clock, Env, Error, TaskFailure, Tasks, Timestamp};
use sqlx::postgres::PgPool;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::error::{read_failed, request_id_reused, stopped};
use crate::hint::Hub;
use crate::migration::{Migrations, STORE};
use crate::postgres::{self, PostgresBackend};
use crate::snapshot::{HEAD_SQL, Source};
use crate::sqlite::{self, ReadPool, SqliteBackend};
use crate::stats::{Counters, Stats};
use crate::storage::StorageState;
use crate::value::storable;
use crate::writer::{Job, REPLAY_SQL, Shared, Writer, replay_of};
use crate::{
    BodyHash, CommitError, Committed, Hint, HintEvent, HintTransport, IdempotencyKey, Replay, Row, Scope,
    Snapshot, Value, WriteSet,
};

/// Write sets that may wait for the writer before callers have to wait.
const QUEUE: usize = 1024;
/// How long a close waits for reads that are still running.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// How often [`Store::retry_on_conflict`] decides again.
const MAX_DECISIONS: u32 = 5;
/// Parameters that a SQLite URL may have.
const USUAL: [&str; 3] = ["mode=rwc", "cache=private", "immutable=0"];

/// Options of a store.
#[derive(Clone)]
pub struct StoreOptions {
    /// Most connections that read at the same time; default 4.
    pub readers: u32,
    /// How long a read waits for a connection; default 5 s.
    pub acquire_timeout: Duration,
    /// Sends hints to other processes; default none.
    pub hints: Option<Arc<dyn HintTransport>>,
    /// Used on PostgreSQL instead of the database's own clock. For tests, whose clock is stopped.
    pub clock: Option<Arc<dyn Clock>>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { readers: 4, acquire_timeout: Duration::from_secs(5), hints: None, clock: None }
    }
}

/// One statement in the text of each database, where one text cannot serve both.
#[derive(Clone, Copy, Debug)]
pub struct DialectSql {
    /// The statement for SQLite.
    pub sqlite: &'static str,
    /// The statement for PostgreSQL.
    pub postgres: &'static str,
}

/// A service's database. Cloning shares it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    queue: mpsc::Sender<Job>,
    closed: AtomicBool,
    readers: Readers,
    /// The writer and single statements; nothing can be written after their end.
    writing: Tasks,
    /// The tasks that hold the read transactions of snapshots, on PostgreSQL.
    reading: Tasks,
    failures: Mutex<[Failures; 2]>,
    stats: Arc<Counters>,
    storage: Arc<StorageState>,
    hub: Arc<Hub>,
    env: Env,
    incarnation: String,
    clock: Option<Arc<dyn Clock>>,
}

type Failures = mpsc::UnboundedReceiver<TaskFailure>;

enum Readers {
    Sqlite(ReadPool),
    Postgres(PgPool),
}

impl Store {
    /// Opens `sqlite:<path>` or `postgres://…`, migrates the schema and starts the writer. A SQLite URL may have the
    /// parameters `mode=rwc`, `cache=private` and `immutable=0`, which change nothing.
    ///
    /// # Errors
    /// `INTERNAL` when the database cannot be opened or a migration fails, `INVALID_ARGUMENT` for
    /// a URL of another kind.
    pub async fn connect(
        url: &str,
        migrations: &[&Migrations],
        env: &Env,
        options: StoreOptions,
    ) -> Result<Self, Error> {
        let mut lists = vec![&STORE];
        lists.extend_from_slice(migrations);
        let (writing, failed_writing) = Tasks::new();
        let (reading, failed_reading) = Tasks::new();
        let (queue, jobs) = mpsc::channel(QUEUE);
        let closing = writing.cancellation().clone();
        let stats = Arc::<Counters>::default();
        let storage = Arc::new(StorageState::new());
        let hub = Arc::new(Hub::new(options.hints.clone()));
        if url.contains(":memory:") {
            return Err(Error::invalid_field(
                "store.url",
                "must name a file: each connection has its own memory",
            ));
        }
        check_parameters(url)?;
        let shared =
            Shared { hub: Arc::clone(&hub), stats: Arc::clone(&stats), storage: Arc::clone(&storage) };
        let readers = if url.starts_with("sqlite:") {
            let (connection, pool) = sqlite::open(url, &lists, &options, &stats).await?;
            let backend = SqliteBackend::new(connection, Arc::clone(&env.clock));
            let writer = Writer::new(backend, jobs, closing, shared);
            writing.spawn("store writer", on_its_own_thread(writer.run())?);
            Readers::Sqlite(pool)
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let (connect, pool) = postgres::open(url, &lists, &options).await?;
            let backend = PostgresBackend::new(connect, options.clock.clone());
            let writer = Writer::new(backend, jobs, closing, shared);
            writing.spawn("store writer", writer.run());
            Readers::Postgres(pool)
        } else {
            return Err(Error::invalid_field("store.url", "must begin with sqlite: or postgres:"));
        };
        let inner = Inner {
            queue,
            closed: AtomicBool::new(false),
            readers,
            writing,
            reading,
            failures: Mutex::new([failed_writing, failed_reading]),
            stats,
            storage,
            hub,
            env: env.clone(),
            incarnation: String::new(),
            clock: options.clock,
        };
        inner.incarnate().await
    }

    /// Commits a write set together with all others that are queued. When the caller's future is dropped, the write set
    /// may still be committed, but never partially.
    ///
    /// # Errors
    /// See [`CommitError`]; nothing was written then. (After a lost database connection the result of the commit itself
    /// can be unknown; that is `Database`, too.)
    pub async fn commit(&self, set: WriteSet) -> Result<Committed, CommitError> {
        let (reply, outcome) = oneshot::channel();
        self.inner.queue.send(Job::Commit(Box::new(set), reply)).await.map_err(|_| CommitError::Stopped)?;
        outcome.await.map_err(|_| CommitError::Stopped)?
    }

    /// Optimistic concurrency: loads, decides and commits; on a concurrent change (a guard failed, a key was taken) it
    /// loads and decides again, at most five times.
    ///
    /// # Errors
    /// The error of `decide`, or that of the last commit.
    pub async fn retry_on_conflict<T, F, Fut>(&self, mut decide: F) -> Result<(Committed, T), CommitError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<(WriteSet, T), Error>>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            let (set, value) = decide().await?;
            match self.commit(set).await {
                Ok(committed) => return Ok((committed, value)),
                Err(e) if e.is_concurrent_change() && tries < MAX_DECISIONS => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The stored answer of a request that was already committed, if any. Check this before deciding: a request that is
    /// invalid now because of its own effect must still get its first answer.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` `REQUEST_ID_REUSED` when the id was used with another body.
    pub async fn replay(&self, key: &IdempotencyKey, hash: BodyHash) -> Result<Option<Replay>, Error> {
        if !key.protects() {
            return Ok(None);
        }
        let rows = self.query(REPLAY_SQL, &key.values()).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (response, rev) = replay_of(row, hash.0)?.ok_or_else(request_id_reused)?;
        Ok(Some(Replay { response, rev }))
    }

    /// Runs one reading statement with `$1` parameters, the same text on both databases.
    ///
    /// # Errors
    /// `UNAVAILABLE` while the store closes, or when the database cannot be reached, is busy, or its disk is full or
    /// fails; `INTERNAL` when the database refuses the statement.
    pub async fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, Error> {
        self.inner.stats.statements.fetch_add(1, Ordering::Relaxed);
        let params = storable(params);
        match &self.inner.readers {
            Readers::Sqlite(pool) => pool.query(sql, &params).await.map_err(read_failed),
            Readers::Postgres(pool) => {
                let mut connection = pool.acquire().await.map_err(read_failed)?;
                postgres::query(&mut connection, sql, &params).await.map_err(read_failed)
            }
        }
    }

    /// Begins a read transaction, whose reads all see the same state.
    ///
    /// # Errors
    /// See [`Store::query`].
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(stopped());
        }
        let source = match &self.inner.readers {
            Readers::Sqlite(pool) => Source::Sqlite(pool.transaction().await.map_err(read_failed)?),
            Readers::Postgres(pool) => {
                let (reads, served) = mpsc::channel(4);
                let (begun, ready) = oneshot::channel();
                let cancel = self.inner.reading.cancellation().clone();
                let serving = postgres::serve_snapshot(pool.clone(), served, begun, cancel);
                self.inner.reading.spawn("store snapshot", serving);
                ready.await.map_err(|_| stopped())??;
                Source::Postgres(reads)
            }
        };
        Ok(Snapshot { source, stats: Arc::clone(&self.inner.stats) })
    }

    /// Runs one writing statement, with its RETURNING rows, in a transaction that the store owns:
    /// for claims, sweeps and lease renewals. Everything else belongs into a write set.
    ///
    /// # Errors
    /// See [`Store::query`].
    pub async fn write(&self, sql: DialectSql, params: &[Value]) -> Result<Vec<Row>, Error> {
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(stopped());
        }
        self.inner.stats.statements.fetch_add(1, Ordering::Relaxed);
        let (reply, outcome) = oneshot::channel();
        let params = storable(params).into_owned();
        match &self.inner.readers {
            Readers::Sqlite(_) => {
                let job = Job::Statement(sql.sqlite, params, reply);
                self.inner.queue.send(job).await.map_err(|_| stopped())?;
            }
            Readers::Postgres(pool) => {
                let storage = Arc::clone(&self.inner.storage);
                let writing = postgres::write(pool.clone(), sql.postgres, params, reply, storage);
                self.inner.writing.spawn("store statement", writing);
            }
        }
        Ok(outcome.await.map_err(|_| stopped())??)
    }

    /// The newest committed revision of a scope; 0 when nothing was written yet.
    ///
    /// # Errors
    /// See [`Store::query`].
    pub async fn head(&self, scope: &Scope) -> Result<i64, Error> {
        let rows = self.query(HEAD_SQL, &[scope.as_str().into()]).await?;
        rows.first().map_or(Ok(0), |row| row.int("rev"))
    }

    /// Hints of the newest revision of a scope. Subscribe first, then read the head.
    pub fn subscribe(&self, scope: &Scope) -> Hint {
        self.inner.hub.subscribe_scope(scope)
    }

    /// Hints that a topic was notified.
    pub fn subscribe_topic(&self, topic: &str) -> Hint {
        self.inner.hub.subscribe_topic(topic)
    }

    /// Processes a hint that another process sent.
    pub fn receive_hint(&self, event: &HintEvent) {
        self.inner.hub.received(event);
    }

    /// The store's time, which decides about leases: the injected clock on SQLite, the database's on PostgreSQL.
    ///
    /// # Errors
    /// See [`Store::query`].
    pub async fn now(&self) -> Result<Timestamp, Error> {
        match (&self.inner.readers, &self.inner.clock) {
            (Readers::Sqlite(_), _) => Ok(self.inner.env.clock.now()),
            (Readers::Postgres(_), Some(clock)) => Ok(clock.now()),
            (Readers::Postgres(pool), None) => {
                let mut connection = pool.acquire().await.map_err(read_failed)?;
                postgres::now(&mut connection).await.map_err(read_failed)
            }
        }
    }

    /// A random id that this database got when it was created; a restored or replaced database has another, so that
    /// resume positions of the old one are refused.
    pub fn incarnation(&self) -> &str {
        &self.inner.incarnation
    }

    /// Completes when a task of the store ended in a panic; the process must then exit.
    pub async fn failed(&self) -> TaskFailure {
        let mut failures = self.inner.failures.lock().await;
        let [writing, reading] = &mut *failures;
        let failure = tokio::select! {
            failure = writing.recv() => failure,
            failure = reading.recv() => failure,
        };
        match failure {
            Some(failure) => failure,
            // The senders live as long as the store.
            None => std::future::pending().await,
        }
    }

    /// Random text of this many bytes, which no database can compress much.
    pub(crate) fn incompressible(&self, bytes: usize) -> String {
        let mut random = vec![0; bytes / 2];
        self.inner.env.random.fill(&mut random);
        hex::encode(random)
    }

    pub(crate) fn storage_state(&self) -> &StorageState {
        &self.inner.storage
    }

    /// Counts an aggregate that was read completely, with all statements that this takes.
    pub fn count_load(&self) {
        self.inner.stats.loads.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts of its work since it was opened.
    pub fn stats(&self) -> Stats {
        self.inner.stats.read()
    }

    /// Accepts no more work, commits what is queued, then lets reads finish, then closes; each step takes at most 5 s.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        if !self.inner.writing.shutdown(CLOSE_LIMIT).await {
            tracing::warn!(tasks = self.inner.writing.len(), "writes still running when the store closed");
        }
        let ended = match &self.inner.readers {
            Readers::Sqlite(pool) => pool.close(CLOSE_LIMIT).await,
            Readers::Postgres(pool) => tokio::time::timeout(CLOSE_LIMIT, pool.close()).await.is_ok(),
        };
        if !ended {
            tracing::warn!("reads still running when the store closed");
        }
        if !self.inner.reading.shutdown(CLOSE_LIMIT).await {
            tracing::warn!(tasks = self.inner.reading.len(), "snapshots still open when the store closed");
        }
    }
}

/// Runs a writer that blocks its thread. A panic goes on in the future that is returned.
fn on_its_own_thread(
    writer: impl Future<Output = ()> + Send + 'static,
) -> Result<impl Future<Output = ()> + Send, Error> {
    let (ended, end) = oneshot::channel();
    let run = move || {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| futures::executor::block_on(writer)));
        // Nobody waits when the runtime has ended.
        let _ = ended.send(result);
    };
    std::thread::Builder::new().name("store-writer".to_owned()).spawn(run).map_err(Error::internal)?;
    Ok(async {
        if let Ok(Err(panic)) = end.await {
            std::panic::resume_unwind(panic);
        }
    })
}

impl Inner {
    /// Reads the incarnation, and generates one for a new database.
    async fn incarnate(self) -> Result<Store, Error> {
        let mut bytes = [0; 16];
        self.env.random.fill(&mut bytes);
        let mut store = Store { inner: Arc::new(self) };
        const SQL: &str =
            "INSERT INTO store_meta (name, value) VALUES ('incarnation', $1) ON CONFLICT (name) DO NOTHING";
        store.write(DialectSql { sqlite: SQL, postgres: SQL }, &[hex::encode(bytes).into()]).await?;
        let rows = store.query("SELECT value FROM store_meta WHERE name = 'incarnation'", &[]).await?;
        let row = rows.first().ok_or_else(|| Error::internal("the database has no incarnation"))?;
        let text = row.text("value")?.to_owned();
        if let Some(inner) = Arc::get_mut(&mut store.inner) {
            inner.incarnation = text;
        }
        Ok(store)
    }
}

/// Accepts those parameters of a SQLite URL that ask for what is done anyway. With others, the connections that read
/// would open something else than the one that writes, or it could not write.
fn check_parameters(url: &str) -> Result<(), Error> {
    let parameters = url.strip_prefix("sqlite:").and_then(|rest| rest.split_once('?'));
    let other = parameters.into_iter().flat_map(|(_, all)| all.split('&')).find(|one| !USUAL.contains(one));
    match other {
        Some(other) => Err(Error::invalid_field(
            "store.url",
            format!(
                "cannot have the parameter \"{other}\"; after the path only {} are allowed",
                USUAL.join(", ")
            ),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_on_the_writer_s_thread_is_one_of_its_task() {
        let (tasks, mut failures) = Tasks::new();
        let writer = async { panic!("planted") };
        tasks.spawn("store writer", on_its_own_thread(writer).unwrap());
        assert_eq!(failures.recv().await, Some(TaskFailure { name: "store writer" }));
    }
}
