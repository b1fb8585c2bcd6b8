//! The generic proofs on a flow of seven stages with recorded effects, on each database.
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Bench, Ledger, SEVEN, effect, project, start};
use async_trait::async_trait;
use foundry_core::{Env, Error, FlowId, TaskId};
use foundry_flow::proofs::{World, prove};
use foundry_flow::{Binding, Flow, Outcome, Retry, Stage, StageContext, signal};
use foundry_store::{Store, WriteSet};

const LIMIT: Duration = Duration::from_secs(60);

static WAITING: Flow<Ledger> = Flow::new(
    "waiting",
    &[
        Stage::new("ask", LIMIT, Retry::DEFAULT, effect),
        Stage::new("answered", LIMIT, Retry::DEFAULT, |ledger, ctx| Box::pin(answered(ledger, ctx))),
        Stage::new("use", LIMIT, Retry::DEFAULT, effect),
    ],
);

/// Waits until the answer exists in the ledger.
async fn answered(ledger: &Arc<Ledger>, ctx: &StageContext) -> Outcome {
    if ledger.existing().iter().any(|e| e == "answer") {
        effect(ledger, ctx).await
    } else {
        Outcome::wait(ctx.subject_id(), "waits for the answer")
    }
}

/// Worlds share a database, each with its own entity and ledger.
struct Seven {
    bench: Arc<Bench>,
    ledger: Ledger,
    flow: &'static Flow<Ledger>,
    entity: String,
}

impl Seven {
    fn new(bench: &Arc<Bench>, flow: &'static Flow<Ledger>) -> Self {
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
        vec![self.flow.bind(&Arc::new(self.ledger.clone())).projection(project)]
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

async fn a_waiting_flow_passes_all_proofs(bench: Bench) {
    let bench = Arc::new(bench);
    prove(&WAITING, async || Seven::new(&bench, &WAITING)).await;
}

on_both_databases! {
    seven_stages_pass_all_proofs,
    a_waiting_flow_passes_all_proofs,
}
