//! The writer: takes all queued write sets, applies them in one transaction, commits once.
//!
//! First all together, in as few multi-row statements as possible; when one of them fails, the transaction is rolled
//! back and the batch runs again one by one under savepoints, so that a failed request affects only itself and gets its
//! own error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Control, Failure, Fill};
use crate::fault::{Refusal, Trouble, is_connection_error, is_statement_error, refusal};
use crate::hint::Hub;
use crate::idempotency::IDEMPOTENCY;
use crate::plan::{Group, PlannedRow, Round};
use crate::revisions::Wanted;
use crate::stats::Counters;
use crate::value::Bound;
use crate::{CommitError, Committed, Row, Scope, Value, WriteSet};

/// Most requests that share a commit: bounds the time until the first of them is answered.
const MAX_BATCH: usize = 256;
/// How often a batch is run again after a deadlock or serialization failure.
pub(crate) const MAX_TRIES: u32 = 5;

pub(crate) type Outcome = Result<Committed, CommitError>;

/// The work that callers queue.
pub(crate) enum Job {
    /// Commit a write set.
    Commit(Box<WriteSet>, oneshot::Sender<Outcome>),
    /// Run one writing statement in its own transaction.
    Statement(&'static str, Vec<Value>, oneshot::Sender<Result<Vec<Row>, CommitError>>),
}

/// The result of a job within a transaction that is not committed yet.
enum Done {
    Committed(Vec<i64>),
    Rows(Vec<Row>),
    Failed(CommitError),
}

pub(crate) struct Writer<B> {
    backend: B,
    queue: mpsc::Receiver<Job>,
    closing: CancellationToken,
    hub: Arc<Hub>,
    stats: Arc<Counters>,
}

impl<B: Backend> Writer<B> {
    pub(crate) fn new(
        backend: B,
        queue: mpsc::Receiver<Job>,
        closing: CancellationToken,
        hub: Arc<Hub>,
        stats: Arc<Counters>,
    ) -> Self {
        Self { backend, queue, closing, hub, stats }
    }

    /// Runs until the store closes; everything queued before that is committed.
    pub(crate) async fn run(mut self) {
        let mut jobs = Vec::with_capacity(MAX_BATCH);
        loop {
            let taken = tokio::select! {
                biased;
                taken = self.queue.recv_many(&mut jobs, MAX_BATCH) => taken,
                () = self.closing.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
            };
            if taken == 0 {
                return;
            }
            self.process(&mut jobs).await;
        }
    }

    async fn process(&mut self, jobs: &mut Vec<Job>) {
        self.stats.requests.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        let mut tries = 0;
        let outcomes = loop {
            match self.apply(jobs).await {
                Ok(outcomes) => break Ok(outcomes),
                Err(Trouble { error, committing }) => {
                    tries += 1;
                    let transient = B::is_transient(&error);
                    if !transient || self.backend.control(Control::Rollback).await.is_err() {
                        self.backend.discard();
                    }
                    // Work lost before the commit is not in the database and may run again.
                    let again = transient || !committing && is_connection_error(&error);
                    if !again || tries == MAX_TRIES {
                        break Err(error);
                    }
                }
            }
        };
        self.stats.batches.fetch_add(1, Ordering::Relaxed);
        match outcomes {
            Ok(outcomes) => self.answer(jobs, outcomes),
            Err(e) => {
                tracing::error!(error = %e, requests = jobs.len(), "the database failed a batch");
                let e = Arc::new(e);
                for job in jobs.drain(..) {
                    let source = Box::new(Arc::clone(&e));
                    let error = if is_connection_error(&e) {
                        CommitError::Unavailable(source)
                    } else {
                        CommitError::Database(source)
                    };
                    // A caller that has gone away needs no answer; this holds for all sends here.
                    match job {
                        Job::Commit(_, reply) => drop(reply.send(Err(error))),
                        Job::Statement(_, _, reply) => drop(reply.send(Err(error))),
                    }
                }
            }
        }
    }

    fn answer(&self, jobs: &mut Vec<Job>, outcomes: Vec<Done>) {
        let mut newest: BTreeMap<String, i64> = BTreeMap::new();
        let mut topics: Vec<String> = Vec::new();
        for (job, done) in jobs.drain(..).zip(outcomes) {
            match (job, done) {
                (Job::Commit(set, reply), Done::Committed(revisions)) => {
                    let committed = Committed::new(set.scopes, revisions);
                    for (scope, rev) in &committed.revisions {
                        if !scope.is_audit() {
                            let known = newest.entry(scope.as_str().to_owned()).or_default();
                            *known = (*known).max(*rev);
                        }
                    }
                    topics.extend(set.topics);
                    let _ = reply.send(Ok(committed));
                }
                (Job::Commit(_, reply), Done::Failed(e)) => drop(reply.send(Err(e))),
                (Job::Statement(_, _, reply), Done::Rows(rows)) => drop(reply.send(Ok(rows))),
                (Job::Statement(_, _, reply), Done::Failed(e)) => drop(reply.send(Err(e))),
                // No other pair occurs; a dropped reply is read as a stopped store.
                _ => {}
            }
        }
        topics.sort_unstable();
        topics.dedup();
        self.hub.committed(&newest.into_iter().collect::<Vec<_>>(), &topics);
    }

    /// Runs the batch in one transaction. An error means that nothing was committed, unless the commit itself was in
    /// progress.
    async fn apply(&mut self, jobs: &[Job]) -> Result<Vec<Done>, Trouble> {
        self.backend.ready().await?;
        let malformed = jobs.iter().any(|j| matches!(j, Job::Commit(set, _) if set.defect.is_some()));
        if !malformed {
            match self.together(jobs).await {
                Ok(done) => match self.backend.control(Control::Commit).await {
                    Ok(()) => return Ok(done),
                    // A deferred constraint failed: find out whose.
                    Err(e) if is_statement_error(&e) => {}
                    Err(error) => return Err(Trouble { error, committing: true }),
                },
                Err(Failure::Database(e)) if !is_statement_error(&e) => return Err(e.into()),
                Err(_) => {}
            }
            // Already rolled back if the commit failed.
            let _ = self.backend.control(Control::Rollback).await;
        }
        self.stats.one_by_one.fetch_add(1, Ordering::Relaxed);
        self.backend.control(Control::Begin).await?;
        let done = self.one_by_one(jobs).await?;
        match self.backend.control(Control::Commit).await {
            Ok(()) => Ok(done),
            Err(error) => Err(Trouble { error, committing: true }),
        }
    }

    async fn together(&mut self, jobs: &[Job]) -> Result<Vec<Done>, Failure> {
        let sets: Vec<Option<&WriteSet>> = jobs
            .iter()
            .map(|j| match j {
                Job::Commit(set, _) => Some(&**set),
                Job::Statement(..) => None,
            })
            .collect();
        let timed = sets.iter().flatten().any(|s| s.timed);
        let mut wanted = Wanted::of(&sets);
        let begun = self.backend.begin(&wanted.amounts(), timed).await?;
        let revisions = wanted.hand_out(begun.newest)?;
        let fill = Fill { revisions: &revisions, now: begun.now };
        let mut done: Vec<Done> = Vec::with_capacity(jobs.len());
        let mut round = Round::default();
        for (owner, job) in jobs.iter().enumerate() {
            match job {
                Job::Commit(set, _) => {
                    if !round.try_add(owner, set) {
                        self.backend.flush(&round.groups, &fill).await?;
                        round = Round::default();
                        round.try_add(owner, set);
                    }
                    done.push(Done::Committed(revisions[owner].clone()));
                }
                Job::Statement(sql, params, _) => {
                    self.backend.flush(&round.groups, &fill).await?;
                    round = Round::default();
                    done.push(Done::Rows(self.statement(sql, params).await?));
                }
            }
        }
        self.backend.flush(&round.groups, &fill).await?;
        Ok(done)
    }

    async fn one_by_one(&mut self, jobs: &[Job]) -> Result<Vec<Done>, sqlx::Error> {
        let mut done = Vec::with_capacity(jobs.len());
        if B::SHARED {
            self.lock_scopes(jobs).await?;
        }
        for job in jobs {
            self.backend.control(Control::Savepoint).await?;
            let outcome = match job {
                Job::Commit(set, _) => self.one(set).await,
                Job::Statement(sql, params, _) => {
                    self.statement(sql, params).await.map(Done::Rows).map_err(Refusal::Database)
                }
            };
            match outcome {
                Ok(outcome) => {
                    self.backend.control(Control::Release).await?;
                    done.push(outcome);
                }
                Err(refusal) => {
                    let error = match refusal {
                        Refusal::Database(e) if !is_statement_error(&e) => {
                            return Err(e);
                        }
                        Refusal::Database(e) => CommitError::database(e),
                        Refusal::Typed(e) => e,
                    };
                    self.backend.control(Control::RollbackToSavepoint).await?;
                    self.backend.control(Control::Release).await?;
                    let error = self.raced(job, error).await?;
                    done.push(Done::Failed(error));
                }
            }
        }
        Ok(done)
    }

    /// Locks all counters in key order; one by one they would be locked in the order of the queue.
    async fn lock_scopes(&mut self, jobs: &[Job]) -> Result<(), sqlx::Error> {
        let sets = jobs.iter().filter_map(|j| if let Job::Commit(set, _) = j { Some(set) } else { None });
        let scopes: BTreeSet<&str> = sets.flat_map(|s| s.scopes.iter().map(Scope::as_str)).collect();
        let scopes: Vec<(&str, i64)> = scopes.into_iter().map(|s| (s, 0)).collect();
        if scopes.is_empty() { Ok(()) } else { self.backend.reserve(&scopes).await.map(drop) }
    }

    /// Another process may have committed the same request between our check and our insert.
    async fn raced(&mut self, job: &Job, error: CommitError) -> Result<CommitError, sqlx::Error> {
        match (job, &error) {
            (Job::Commit(set, _), CommitError::Conflict { table, .. }) if *table == IDEMPOTENCY.name => {
                Ok(self.replayed(set).await?.unwrap_or(error))
            }
            _ => Ok(error),
        }
    }

    /// Applies one write set, statement by statement, so that a failure can be attributed.
    async fn one(&mut self, set: &WriteSet) -> Result<Done, Refusal> {
        if let Some(text) = &set.defect {
            return Err(Refusal::Typed(CommitError::Malformed(text.clone())));
        }
        if let Some(error) = self.replayed(set).await? {
            return Err(Refusal::Typed(error));
        }
        let now = if set.timed { self.backend.now().await? } else { 0 };
        let mut wanted = Wanted::of(&[Some(set)]);
        let newest = match &wanted.amounts()[..] {
            [] => Vec::new(),
            amounts => self.backend.reserve(amounts).await?,
        };
        let revisions = wanted.hand_out(newest)?;
        let fill = Fill { revisions: &revisions, now };
        for operation in set.guards.iter().chain(&set.operations) {
            let group = Group { shape: &operation.shape, rows: vec![PlannedRow { owner: 0, operation }] };
            self.backend.flush(&[group], &fill).await.map_err(|e| refusal(operation, e))?;
        }
        Ok(Done::Committed(revisions.into_iter().next().unwrap_or_default()))
    }

    /// The stored outcome of an earlier attempt, if this request was committed before.
    async fn replayed(&mut self, set: &WriteSet) -> Result<Option<CommitError>, sqlx::Error> {
        let Some((key, hash)) = &set.idempotency else { return Ok(None) };
        let key = key.values();
        let params: Vec<Bound<'_>> = key.iter().map(Bound::plain).collect();
        let rows = self.backend.rows(REPLAY_SQL, &params).await?;
        Ok(rows.first().map(|row| match replay_of(row, hash.0) {
            Ok(Some((response, rev))) => CommitError::Replayed { response, rev },
            Ok(None) => CommitError::IdempotencyMismatch,
            Err(e) => CommitError::Refused(e),
        }))
    }

    async fn statement(&mut self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, sqlx::Error> {
        let params: Vec<Bound<'_>> = params.iter().map(Bound::plain).collect();
        self.backend.rows(sql, &params).await
    }
}

pub(crate) const REPLAY_SQL: &str = "SELECT body_hash, response, rev FROM store_idempotency \
     WHERE organization_id = $1 AND caller = $2 AND method = $3 AND request_id = $4";

/// The stored answer; none when it belongs to another body.
pub(crate) fn replay_of(
    row: &Row,
    hash: [u8; 32],
) -> Result<Option<(bytes::Bytes, i64)>, foundry_core::Error> {
    let same = row.blob("body_hash")? == hash[..];
    if same { Ok(Some((row.blob("response")?, row.int("rev")?))) } else { Ok(None) }
}
