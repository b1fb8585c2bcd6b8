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
use crate::fault::{Refusal, Trouble, is_statement_error, refusal};
use crate::hint::Hub;
use crate::idempotency::IDEMPOTENCY;
use crate::plan::{Group, PlannedRow, Round};
use crate::revisions::Wanted;
use crate::stats::Counters;
use crate::storage::StorageState;
use crate::value::Bound;
use crate::{CommitError, Committed, Fault, Row, Scope, Value, WriteSet};

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

/// The answer to a job, on its way to the caller.
enum Answer {
    Commit(oneshot::Sender<Outcome>, Outcome),
    Statement(oneshot::Sender<Result<Vec<Row>, CommitError>>, Result<Vec<Row>, CommitError>),
}

/// What the writer shares with its store.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) hub: Arc<Hub>,
    pub(crate) stats: Arc<Counters>,
    pub(crate) storage: Arc<StorageState>,
}

pub(crate) struct Writer<B> {
    backend: B,
    queue: mpsc::Receiver<Job>,
    closing: CancellationToken,
    shared: Shared,
}

/// A failure after which this process must not write any more.
struct Dead(Arc<sqlx::Error>);

impl<B: Backend> Writer<B> {
    pub(crate) fn new(
        backend: B,
        queue: mpsc::Receiver<Job>,
        closing: CancellationToken,
        shared: Shared,
    ) -> Self {
        Self { backend, queue, closing, shared }
    }

    /// Runs until the store closes; everything queued before that is committed. Panics after a failed sync.
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
            self.shared.stats.requests.fetch_add(taken as u64, Ordering::Relaxed);
            if let Err(dead) = self.process_all(&mut jobs).await {
                self.die(&dead.0);
            }
        }
    }

    /// Ends the writer, and with it the process. The kernel counts pages that it could not write as clean, so that a later
    /// sync succeeds without them: what is durable is known only after the recovery of the next start.
    fn die(self, error: &sqlx::Error) -> ! {
        tracing::error!(%error, "a sync failed: the process ends, and recovers its database when it starts again");
        // To close the connection would copy pages of the log into the database that may not be on the disk.
        std::mem::forget(self.backend);
        panic!("a sync of the database failed: {error}");
    }

    async fn process_all(&mut self, jobs: &mut Vec<Job>) -> Result<(), Dead> {
        for job in self.process(jobs).await? {
            self.process(&mut vec![job]).await?;
        }
        Ok(())
    }

    /// Returns the jobs of a batch that failed because of one of them: each must be run by itself.
    async fn process(&mut self, jobs: &mut Vec<Job>) -> Result<Vec<Job>, Dead> {
        let mut tries = 0;
        let outcomes = loop {
            match self.apply(jobs).await {
                Ok(outcomes) => break Ok(outcomes),
                Err(Trouble { error, committing }) => {
                    tries += 1;
                    let fault = Fault::of(&error);
                    if fault == Fault::Fatal {
                        break Err((error, false));
                    }
                    let transient = B::is_transient(&error);
                    // A connection to a local file is never replaced, so its transaction must end.
                    let keep = transient || !B::SHARED;
                    if !keep || self.backend.control(Control::Rollback).await.is_err() {
                        self.backend.discard();
                    }
                    // Work lost before the commit is not in the database and may run again.
                    let again = transient || !committing && fault == Fault::Unreachable;
                    if !again || tries == MAX_TRIES {
                        let refused = !committing || matches!(error, sqlx::Error::Database(_));
                        break Err((error, refused && fault == Fault::Permanent));
                    }
                }
            }
        };
        self.shared.stats.batches.fetch_add(1, Ordering::Relaxed);
        match outcomes {
            Ok(outcomes) => self.answer(jobs, outcomes),
            // Nothing was committed, and only one of them may be at fault.
            Err((_, true)) if jobs.len() > 1 => return Ok(std::mem::take(jobs)),
            Err((e, _)) => self.fail(jobs, e)?,
        }
        Ok(Vec::new())
    }

    /// Answers a batch that failed as a whole.
    fn fail(&self, jobs: &mut Vec<Job>, error: sqlx::Error) -> Result<(), Dead> {
        let fault = Fault::of(&error);
        if !self.shared.storage.failed(fault, &error) {
            tracing::error!(%error, %fault, requests = jobs.len(), "the database failed a batch");
        }
        let error = Arc::new(error);
        for job in jobs.drain(..) {
            let failed = CommitError::Database { fault, source: Box::new(Arc::clone(&error)) };
            // A caller that has gone away needs no answer; this holds for all sends here.
            match job {
                Job::Commit(_, reply) => drop(reply.send(Err(failed))),
                Job::Statement(_, _, reply) => drop(reply.send(Err(failed))),
            }
        }
        if fault == Fault::Fatal { Err(Dead(error)) } else { Ok(()) }
    }

    /// Sends the hints, then the answers: a caller that goes on finds its own hint delivered.
    fn answer(&self, jobs: &mut Vec<Job>, outcomes: Vec<Done>) {
        let mut newest: BTreeMap<String, i64> = BTreeMap::new();
        let mut topics: Vec<String> = Vec::new();
        let mut answers: Vec<Answer> = Vec::with_capacity(jobs.len());
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
                    answers.push(Answer::Commit(reply, Ok(committed)));
                }
                (Job::Commit(_, reply), Done::Failed(e)) => answers.push(Answer::Commit(reply, Err(e))),
                (Job::Statement(_, _, reply), Done::Rows(rows)) => {
                    answers.push(Answer::Statement(reply, Ok(rows)));
                }
                (Job::Statement(_, _, reply), Done::Failed(e)) => {
                    answers.push(Answer::Statement(reply, Err(e)));
                }
                // No other pair occurs; a dropped reply is read as a stopped store.
                _ => {}
            }
        }
        topics.sort_unstable();
        topics.dedup();
        self.shared.hub.committed(&newest.into_iter().collect::<Vec<_>>(), &topics);
        for answer in answers {
            match answer {
                Answer::Commit(reply, outcome) => drop(reply.send(outcome)),
                Answer::Statement(reply, outcome) => drop(reply.send(outcome)),
            }
        }
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
        self.shared.stats.one_by_one.fetch_add(1, Ordering::Relaxed);
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

#[cfg(test)]
mod tests;
