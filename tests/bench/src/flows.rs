//! A flow of seven stages that do nothing, next to the eight commits that it needs at least.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{Env, FlowId, Tasks};
use foundry_flow::{
    Engine, Flow, FlowStatus, Hooks, MIGRATIONS, NewFlow, Options, Outcome, Retry, Stage, Transition, enqueue,
};
use foundry_store::{Store, WriteSet};
use tokio::sync::oneshot;

use crate::commands::{BENCH, commit_rows, keep, open_store};
use crate::figures::Figures;
use crate::load::{operation, run};
use crate::report::{Report, ratio};
use crate::{PAIRS, Plan};

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

/// Measures flows at 1 and 64 clients; each client starts the next flow when its last has ended.
pub async fn flows(plan: &Plan, report: &mut Report) {
    let dir = tempfile::tempdir().expect("directory");
    let store = open_store(dir.path(), &[&MIGRATIONS, &BENCH]).await;
    let ends = Arc::new(Ends::default());
    let binding = SEVEN.bind(&Arc::new(()));
    let options = Options { hooks: Arc::clone(&ends) as _, ..Options::default() };
    let engine = Engine::new(store.clone(), Env::system(), vec![binding], options).expect("an engine");
    let (tasks, _failures) = Tasks::new();
    engine.start(&tasks);
    let own = std::process::id();
    report.table("2. flow of 7 no-op stages, in process, SQLite FULL");
    for clients in [1_usize, 64] {
        let [mut flow, mut floor] = [const { None::<Figures> }; 2];
        for pair in 0..PAIRS {
            let named = |kind: &str, i: usize| format!("{kind}{clients}-{pair}-{i}");
            let operations = (0..clients).map(|i| {
                let (store, ends, name) = (store.clone(), Arc::clone(&ends), named("flow", i));
                operation(move |n| one_flow(store.clone(), Arc::clone(&ends), format!("{name}-{n}")))
            });
            keep(&mut flow, run(own, plan.slice, operations.collect()).await);
            let operations = (0..clients).map(|i| {
                let (store, name) = (store.clone(), named("floor", i));
                operation(move |n| eight_commits(store.clone(), format!("{name}-{n}")))
            });
            keep(&mut floor, run(own, plan.slice, operations.collect()).await);
        }
        let [flow, floor] = [flow, floor].map(Option::unwrap_or_default);
        report.line(clients, "7-stage flow", &flow);
        report.line(clients, "  8 raw store commits", &floor);
        report.say(&format!(
            "flow / floor: p50 {}, rate {}, CPU {}",
            ratio(flow.percentile(0.5), floor.percentile(0.5)),
            ratio(flow.rate(), floor.rate()),
            ratio(flow.cpu_micros(), floor.cpu_micros()),
        ));
    }
    engine.shutdown(LIMIT).await;
    tasks.shutdown(LIMIT).await;
    store.close().await;
}
