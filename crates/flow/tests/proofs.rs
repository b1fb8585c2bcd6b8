//! The generic proofs on a flow of seven stages with recorded effects, on each database.
#![allow(clippy::unwrap_used)] // the worlds are parts of tests

mod common;

use std::time::Duration;

use async_trait::async_trait;
use common::{Bench, Effect, SEVEN, project, seven, start};
use foundry_core::{Env, Error, FlowId};
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
            Outcome::wait("answer", "waits for the answer")
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

struct Seven {
    bench: Bench,
    flow: &'static Flow,
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
            return vec![seven(self.flow, &self.bench.ledger)];
        }
        let effect = || Effect(self.bench.ledger.clone());
        let waiting = Binding::new(&WAITING)
            .stage("ask", effect())
            .stage("answered", Answered(effect()))
            .stage("use", effect())
            .projection(project);
        vec![waiting]
    }

    async fn start(&self) -> Result<FlowId, Error> {
        Ok(start(&self.bench.store, self.bench.env(), self.flow, "entity").await)
    }

    async fn effects(&self) -> Vec<String> {
        self.bench.ledger.existing()
    }

    async fn shown(&self) -> String {
        format!("{:?}", self.bench.entity("entity").await)
    }

    async fn outside_acts(&self) {
        if self.flow.kind == WAITING.kind {
            self.bench.ledger.create("answer");
            let mut ws = WriteSet::new();
            signal(&mut ws, self.bench.env(), "answer");
            self.bench.store.commit(ws).await.unwrap();
        }
    }
}

#[tokio::test]
async fn seven_stages_pass_all_proofs_on_sqlite() {
    prove(&SEVEN, async || Seven { bench: Bench::sqlite().await, flow: &SEVEN }).await;
}

#[tokio::test]
async fn seven_unwinding_stages_pass_all_proofs_on_sqlite() {
    prove(&UNWINDING, async || Seven { bench: Bench::sqlite().await, flow: &UNWINDING }).await;
}

#[tokio::test]
async fn a_waiting_flow_passes_all_proofs_on_sqlite() {
    prove(&WAITING, async || Seven { bench: Bench::sqlite().await, flow: &WAITING }).await;
}
