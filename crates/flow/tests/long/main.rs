//! 100,000 flows, while wake-ups are lost and one process after the other crashes: none may stand still.
//!
//! `make test-long`; no part of `make test`.

#![allow(clippy::unwrap_used)] // a test and its helpers fail by panicking

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use foundry_core::{Env, FlowId, Tasks};
use foundry_flow::{
    Engine, FailPoints, Flow, FlowStatus, MIGRATIONS, NewFlow, Options, Outcome, OwnedDataDirectory, Point,
    Retry, Stage, StageContext, Status, Verdict, enqueue, signal,
};
use foundry_store::{Store, StoreOptions, WriteSet};
use futures::future::BoxFuture;
use tokio::sync::mpsc;

const FLOWS: usize = 100_000;
/// Flows of one request that starts some, and of one that answers some.
const TOGETHER: usize = 100;
/// Points of attempts that a process reaches before it crashes: this many, and up to twice as many.
const POINTS: f64 = 5_000.0;
/// Without another flow done for this long, they stand still: several sweeps pass within it.
const STANDSTILL: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_secs(60);

/// What the flows do outside, and what they wait for.
#[derive(Default)]
struct Outside {
    answered: Mutex<HashSet<FlowId>>,
    delivered: Mutex<HashSet<FlowId>>,
}

/// Two stages with an answer from outside between them.
static ERRAND: Flow<Outside> = Flow::new(
    "errand",
    &[
        Stage::new("ask", LIMIT, Retry::DEFAULT, ask),
        Stage::new("receive", LIMIT, Retry::DEFAULT, receive),
        Stage::new("deliver", LIMIT, Retry::DEFAULT, deliver),
    ],
)
.concurrency(64)
.brief();

fn key(id: &FlowId) -> String {
    format!("answer/{id}")
}

fn ask<'a>(_: &'a Arc<Outside>, _: &'a StageContext) -> BoxFuture<'a, Outcome> {
    Box::pin(async { Outcome::done() })
}

fn receive<'a>(outside: &'a Arc<Outside>, ctx: &'a StageContext) -> BoxFuture<'a, Outcome> {
    let answered = foundry_core::lock(&outside.answered).contains(ctx.flow_id());
    Box::pin(async move {
        // The answer may come here, between the look and the wait.
        tokio::task::yield_now().await;
        if answered { Outcome::done() } else { Outcome::wait(key(ctx.flow_id()), "no answer yet") }
    })
}

fn deliver<'a>(outside: &'a Arc<Outside>, ctx: &'a StageContext) -> BoxFuture<'a, Outcome> {
    foundry_core::lock(&outside.delivered).insert(ctx.flow_id().clone());
    Box::pin(async { Outcome::done() })
}

/// Crashes the process at the point that is reached after so many others.
struct CrashAfter(AtomicI64);

#[async_trait]
impl FailPoints for CrashAfter {
    async fn reach(&self, _: Point, _: &FlowStatus) -> Verdict {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 { Verdict::Crash } else { Verdict::Continue }
    }
}

/// Starts all flows, in requests of several; tells which were started.
async fn start_all(store: Store, env: Env, started: mpsc::Sender<Vec<FlowId>>) {
    for _ in 0..FLOWS / TOGETHER {
        let ids: Vec<FlowId> = (0..TOGETHER).map(|_| FlowId::generate(&env)).collect();
        let mut ws = WriteSet::new();
        for id in &ids {
            enqueue(&mut ws, NewFlow::new(&ERRAND, id.clone(), id.as_str(), id.as_str()));
        }
        store.commit(ws).await.unwrap();
        started.send(ids).await.unwrap();
    }
}

/// Answers each flow as soon as it was started: before, while and after it begins to wait.
async fn answer_all(store: Store, env: Env, outside: Arc<Outside>, mut started: mpsc::Receiver<Vec<FlowId>>) {
    while let Some(ids) = started.recv().await {
        let mut ws = WriteSet::new();
        for id in ids {
            signal(&mut ws, &env, &key(&id));
            foundry_core::lock(&outside.answered).insert(id);
        }
        store.commit(ws).await.unwrap();
    }
}

async fn by_status(store: &Store) -> BTreeMap<String, i64> {
    let rows = store.query("SELECT status, COUNT(*) AS n FROM flows GROUP BY status", &[]).await.unwrap();
    rows.iter().map(|row| (row.text("status").unwrap().to_owned(), row.int("n").unwrap())).collect()
}

/// Follows how many flows are done, and panics when they stand still.
struct Progress {
    done: i64,
    changed: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { done: 0, changed: Instant::now() }
    }

    /// Whether all are done.
    async fn look(&mut self, store: &Store, generation: u32) -> bool {
        let counts = by_status(store).await;
        let done = counts.get(Status::Done.as_str()).copied().unwrap_or_default();
        if done != self.done {
            (self.done, self.changed) = (done, Instant::now());
        }
        let still = self.changed.elapsed();
        assert!(still < STANDSTILL, "nothing moved for {still:?} in process {generation}: {counts:?}");
        done == i64::try_from(FLOWS).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_100_000_flows_none_stands_still_while_wake_ups_are_lost_and_processes_crash() {
    let (env, dir) = (Env::system(), tempfile::tempdir().unwrap());
    let url = format!("sqlite:{}", dir.path().join("flow.db").display());
    let store = Store::connect(&url, &[&MIGRATIONS], &env, StoreOptions::default()).await.unwrap();
    let outside = Arc::new(Outside::default());
    let (requests, _) = Tasks::new();
    let (started, answers) = mpsc::channel(8);
    requests.spawn("requests", start_all(store.clone(), env.clone(), started));
    requests.spawn("answers", answer_all(store.clone(), env.clone(), Arc::clone(&outside), answers));

    let (begun, mut progress, mut generation, mut lost) = (Instant::now(), Progress::new(), 0u32, 0u32);
    let mut all_done = false;
    while !all_done {
        generation += 1;
        let points = POINTS * (1.0 + env.random.fraction());
        // Every second process hears of nothing; its sweeper alone finds what is due.
        let ignore_wake_ups = generation.is_multiple_of(2);
        lost += u32::from(ignore_wake_ups);
        #[expect(clippy::cast_possible_truncation, reason = "at most 10,000")]
        let crash = CrashAfter(AtomicI64::new(points as i64));
        let options = Options { fail_points: Some(Arc::new(crash)), ignore_wake_ups, ..Options::default() };
        let engine = Engine::new(store.clone(), env.clone(), vec![ERRAND.bind(&outside)], options).unwrap();
        engine.recover(&OwnedDataDirectory::held_by(&dir)).await.unwrap();
        let (tasks, _failures) = Tasks::new();
        engine.start(&tasks);
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        while !engine.has_crashed() && !all_done {
            looks.tick().await;
            all_done = progress.look(&store, generation).await;
        }
        tasks.shutdown(Duration::from_secs(5)).await;
    }
    assert_eq!(by_status(&store).await, [(Status::Done.as_str().to_owned(), progress.done)].into());
    assert_eq!(foundry_core::lock(&outside.delivered).len(), FLOWS);
    assert!(requests.shutdown(Duration::from_secs(5)).await);
    assert!(generation > 20, "only {generation} processes");
    println!(
        "{FLOWS} flows done in {:?}: {generation} processes, all but the last crashed, {lost} of them without wake-ups",
        begun.elapsed()
    );
}
