//! The generic proofs on a flow of seven stages with recorded effects, on each database.
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Bench, Effect, Ledger, SEVEN, project, seven, start};
use async_trait::async_trait;
use foundry_core::{Env, Error, FlowId, TaskId};
use foundry_flow::proofs::{World, prove};
use foundry_flow::{Binding, Flow, Outcome, Retry, Stage, StageContext, StageSpec, Undo, signal};
use foundry_store::{Store, WriteSet};

const LIMIT: Duration = Duration::from_secs(60);

static UNWINDING: Flow = Flow::new("unwinding", SEVEN.stages).unwinding();

static WAITING: Flow = Flow::new(
    "waiting",
    &[
        StageSpec::new("ask", LIMIT, Retry::DEFAULT),
        StageSpec::new("answered", LIMIT, Retry::DEFAULT),
        StageSpec::new("use", LIMIT, Retry::DEFAULT),
    ],
);

/// Waits until the answer exists outside.
struct Answered(Effect);

#[async_trait]
impl Stage for Answered {
    async fn run(&self, ctx: &StageContext) -> Outcome {
        if self.0.0.existing().iter().any(|e| e == "answer") {
            self.0.run(ctx).await
        } else {
            Outcome::wait(ctx.subject_id(), "waits for the answer")
        }
    }

    fn undoes(&self) -> bool {
        true
    }

    async fn undo(&self, ctx: &StageContext) -> Undo {
        self.0.0.destroy("answer");
        self.0.undo(ctx).await
    }
}

/// Worlds share a database, each with an entity and an outside of its own.
struct Seven {
    bench: Arc<Bench>,
    ledger: Ledger,
    flow: &'static Flow,
    entity: String,
}

impl Seven {
    fn new(bench: &Arc<Bench>, flow: &'static Flow) -> Self {
        let entity = TaskId::generate(bench.env()).to_string();
        Self { bench: Arc::clone(bench), ledger: Ledger::default(), flow, entity }
    }
}

#[async_trait]
impl World for Seven {
    fn store(&self) -> &Store {
        &self.bench.store
    }

    fn env(&self) -> &Env {
        self.bench.env()
    }

    fn advance(&self, d: Duration) {
        self.bench.advance(d);
    }

    fn flows(&self) -> Vec<Binding> {
        if self.flow.kind != WAITING.kind {
            return vec![seven(self.flow, &self.ledger)];
        }
        let effect = || Effect(self.ledger.clone());
        let waiting = Binding::new(&WAITING)
            .stage("ask", effect())
            .stage("answered", Answered(effect()))
            .stage("use", effect())
            .projection(project);
        vec![waiting]
    }

    async fn start(&self) -> Result<FlowId, Error> {
        Ok(start(&self.bench.store, self.bench.env(), self.flow, &self.entity).await)
    }

    async fn effects(&self) -> Vec<String> {
        self.ledger.existing()
    }

    async fn shown(&self) -> String {
        format!("{:?}", self.bench.entity(&self.entity).await)
    }

    async fn outside_acts(&self) {
        if self.flow.kind == WAITING.kind {
            self.ledger.create("answer");
            let mut ws = WriteSet::new();
            signal(&mut ws, self.bench.env(), &self.entity);
            self.bench.store.commit(ws).await.unwrap();
        }
    }
}

async fn seven_stages_pass_all_proofs(bench: Bench) {
    let bench = Arc::new(bench);
    prove(&SEVEN, async || Seven::new(&bench, &SEVEN)).await;
}

async fn seven_unwinding_stages_pass_all_proofs(bench: Bench) {
    let bench = Arc::new(bench);
    prove(&UNWINDING, async || Seven::new(&bench, &UNWINDING)).await;
}

async fn a_waiting_flow_passes_all_proofs(bench: Bench) {
    let bench = Arc::new(bench);
    prove(&WAITING, async || Seven::new(&bench, &WAITING)).await;
}

on_both_databases! {
    seven_stages_pass_all_proofs,
    seven_unwinding_stages_pass_all_proofs,
    a_waiting_flow_passes_all_proofs,
}
