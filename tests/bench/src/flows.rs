//! A flow of seven stages that do nothing, next to the eight commits that it needs at least.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{Env, FlowId, Tasks};
use foundry_flow::{
    Engine, Flow, FlowStatus, Hooks, MIGRATIONS, NewFlow, Options, Outcome, Retry, Stage, Transition, enqueue,
};
use foundry_store::{Store, WriteSet};
use tokio::sync::oneshot;

use crate::Bed;
use crate::commands::{BENCH, commit_rows};
use crate::load::{Lane, interleave, operation};
use crate::report::Report;
use crate::result::Role;

const LIMIT: Duration = Duration::from_secs(60);

const fn stage(name: &'static str) -> Stage<()> {
    Stage::new(name, LIMIT, Retry::DEFAULT, |_, _| Box::pin(async { Outcome::done() }))
}

static SEVEN: Flow<()> = Flow::new(
    "seven",
    &[stage("one"), stage("two"), stage("three"), stage("four"), stage("five"), stage("six"), stage("seven")],
)
.concurrency(64);

/// Notifies the client that started a flow when its end is committed.
#[derive(Default)]
struct Ends(Mutex<HashMap<String, oneshot::Sender<Transition>>>);

impl Ends {
    fn wait_for(&self, subject: &str) -> oneshot::Receiver<Transition> {
        let (end, ended) = oneshot::channel();
        foundry_core::lock(&self.0).insert(subject.to_owned(), end);
        ended
    }
}

impl Hooks for Ends {
    fn attempt_ended(&self, flow: &FlowStatus, _stage: &str, ended: Transition, _took: Duration) {
        if matches!(ended, Transition::Done | Transition::Failed) {
            let waiting = foundry_core::lock(&self.0).remove(&flow.subject_id);
            // No one waits any more when the slice is over.
            let _ = waiting.map(|end| end.send(ended));
        }
    }
}

async fn one_flow(store: Store, ends: Arc<Ends>, subject: String) -> Result<(), String> {
    let ended = ends.wait_for(&subject);
    let mut ws = WriteSet::new();
    enqueue(&mut ws, NewFlow::new(&SEVEN, FlowId::generate(&Env::system()), &subject, &subject));
    store.commit(ws).await.map_err(|e| e.to_string())?;
    match tokio::time::timeout(LIMIT, ended).await {
        Ok(Ok(Transition::Done)) => Ok(()),
        other => Err(format!("the flow did not end: {other:?}")),
    }
}

async fn eight_commits(store: Store, name: String) -> Result<(), String> {
    for step in 0..8 {
        commit_rows(&store, format!("{name}-{step}")).await?;
    }
    Ok(())
}

/// Measures flows at 1, 16 and 64 clients; each client starts the next flow when its last has ended. The engine runs in
/// the benchmark's own process, so a build beside is not measured.
pub async fn flows(bed: &Bed, report: &mut Report) {
    let dir = tempfile::tempdir().expect("directory");
    let store = bed.databases.open(dir.path(), &[&MIGRATIONS, &BENCH]).await;
    let ends = Arc::new(Ends::default());
    let binding = SEVEN.bind(&Arc::new(()));
    let options = Options { hooks: Arc::clone(&ends) as _, ..Options::default() };
    let engine = Engine::new(store.clone(), Env::system(), vec![binding], options).expect("an engine");
    let (tasks, _failures) = Tasks::new();
    engine.start(&tasks);
    let own = vec![std::process::id()];
    report.table(
        "Flow of seven stages that do nothing, in process; floor = the eight commits that it needs at least",
    );
    let next = Arc::new(AtomicU64::new(0));
    let seven = {
        let (store, ends, next) = (store.clone(), Arc::clone(&ends), Arc::clone(&next));
        async move |clients: usize| {
            let one = |_| {
                let (store, ends) = (store.clone(), Arc::clone(&ends));
                let mine = next.fetch_add(1, Ordering::Relaxed);
                operation(move |n| one_flow(store.clone(), Arc::clone(&ends), format!("flow{mine}-{n}")))
            };
            (0..clients).map(one).collect::<Vec<_>>()
        }
    };
    let eight = {
        let store = store.clone();
        async move |clients: usize| {
            let one = |_| {
                let (store, mine) = (store.clone(), next.fetch_add(1, Ordering::Relaxed));
                operation(move |n| eight_commits(store.clone(), format!("floor{mine}-{n}")))
            };
            (0..clients).map(one).collect::<Vec<_>>()
        }
    };
    let mut lanes = vec![
        Lane::new("flow_of_seven", Role::Mesh, "7-stage flow", own.clone(), seven),
        Lane::new("flow_of_seven", Role::Floor, "8 raw store commits", own, eight),
    ];
    if let Some(restate) = &bed.peers.restate {
        lanes.push(Lane::new(
            "flow_of_seven",
            Role::Peer,
            "Restate, 7 steps",
            restate.pids(),
            restate.calls("seven"),
        ));
    }
    for clients in [1, 16, 64] {
        interleave(&bed.plan, bed.plan.slice, clients, &lanes, report).await;
    }
    engine.shutdown(LIMIT).await;
    tasks.shutdown(LIMIT).await;
    store.close().await;
}
