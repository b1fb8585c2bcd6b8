//! Failures that no database makes on demand.

use std::sync::Mutex;

use foundry_core::{TaskFailure, Tasks, lock};

use super::*;
use crate::backend::Begun;
use crate::fault::tests::coded;
use crate::{Storage, Table};

static HEALTHY: Table = Table::new("healthy", &["id"], &["id"]);
static DAMAGED: Table = Table::new("damaged", &["id"], &["id"]);

/// A database whose every commit fails with this code, if there is one, and which cannot write its damaged table.
struct Failing {
    commit: Option<&'static str>,
    asked: Arc<Mutex<Vec<Control>>>,
}

impl Backend for Failing {
    const SHARED: bool = false;

    async fn ready(&mut self) -> Result<(), sqlx::Error> {
        Ok(())
    }

    fn discard(&mut self) {}

    async fn begin(&mut self, _: &[(&str, i64)], _: bool) -> Result<Begun, sqlx::Error> {
        self.control(Control::Begin).await?;
        Ok(Begun::default())
    }

    async fn control(&mut self, control: Control) -> Result<(), sqlx::Error> {
        lock(&self.asked).push(control);
        match self.commit {
            Some(code) if control == Control::Commit => Err(coded(code)),
            _ => Ok(()),
        }
    }

    async fn now(&mut self) -> Result<i64, sqlx::Error> {
        Ok(0)
    }

    async fn reserve(&mut self, _: &[(&str, i64)]) -> Result<Vec<(String, i64)>, sqlx::Error> {
        Ok(Vec::new())
    }

    async fn flush(&mut self, groups: &[Group<'_>], _: &Fill<'_>) -> Result<(), Failure> {
        let damaged = groups.iter().any(|g| *g.shape.table == DAMAGED);
        if damaged { Err(coded("11").into()) } else { Ok(()) }
    }

    async fn rows(&mut self, _: &'static str, _: &[Bound<'_>]) -> Result<Vec<Row>, sqlx::Error> {
        Ok(Vec::new())
    }

    fn is_transient(_: &sqlx::Error) -> bool {
        false
    }
}

/// Queues an insert into each table and runs the writer on them as one batch; returns the outcomes, what the database
/// was asked, what the disk is said to be like, and whether the writer died.
async fn run(
    commit: Option<&'static str>,
    tables: &[&'static Table],
) -> (Vec<Outcome>, Vec<Control>, Storage, bool) {
    let (queue, jobs) = mpsc::channel(tables.len());
    let mut replies = Vec::new();
    for table in tables {
        let (reply, outcome) = oneshot::channel();
        let mut set = WriteSet::new();
        set.insert(table, ["one".into()]);
        queue.send(Job::Commit(Box::new(set), reply)).await.unwrap();
        replies.push(outcome);
    }
    let (tasks, mut failures) = Tasks::new();
    let asked = Arc::<Mutex<Vec<Control>>>::default();
    let shared = Shared {
        hub: Arc::new(Hub::new(None)),
        stats: Arc::default(),
        storage: Arc::new(StorageState::new()),
    };
    let backend = Failing { commit, asked: Arc::clone(&asked) };
    let writer = Writer::new(backend, jobs, tasks.cancellation().clone(), shared.clone());
    tasks.spawn("store writer", writer.run());
    let mut outcomes = Vec::new();
    for reply in replies {
        outcomes.push(reply.await.unwrap());
    }
    assert!(tasks.shutdown(std::time::Duration::from_secs(20)).await);
    let died = failures.try_recv() == Ok(TaskFailure { name: "store writer" });
    let asked = lock(&asked).clone();
    (outcomes, asked, shared.storage.now(), died)
}

fn fault(outcome: &Outcome) -> Option<Fault> {
    match outcome {
        Err(CommitError::Database { fault, .. }) => Some(*fault),
        _ => None,
    }
}

#[tokio::test]
async fn a_failed_sync_is_answered_and_nothing_is_written_after_it() {
    let (outcomes, asked, storage, died) = run(Some("1034"), &[&HEALTHY, &HEALTHY]).await;
    assert_eq!(outcomes.iter().map(fault).collect::<Vec<_>>(), [Some(Fault::Fatal); 2]);
    assert_eq!(asked, [Control::Begin, Control::Commit], "not even a roll-back");
    assert_eq!((storage, died), (Storage::Failing, true));
}

#[tokio::test]
async fn a_full_disk_ends_the_transaction_and_not_the_writer() {
    let (outcomes, asked, storage, died) = run(Some("13"), &[&HEALTHY]).await;
    assert_eq!(fault(&outcomes[0]), Some(Fault::Full));
    assert_eq!(asked, [Control::Begin, Control::Commit, Control::Rollback]);
    assert_eq!((storage, died), (Storage::Full, false));
}

#[tokio::test]
async fn a_damaged_page_fails_the_request_that_needs_it_and_no_other() {
    let (outcomes, _, storage, died) = run(None, &[&HEALTHY, &DAMAGED, &HEALTHY]).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert_eq!(fault(&outcomes[1]), Some(Fault::Permanent));
    assert_eq!((storage, died), (Storage::Writable, false));
}
