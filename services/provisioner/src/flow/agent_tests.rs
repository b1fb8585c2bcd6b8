//! The flows that talk to an agent under the engine's proofs.

use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{Env, Error, FlowId, MessageId};
use foundry_flow::proofs::{World, prove};
use foundry_flow::{Binding, Flow};
use foundry_proto::provisioner::v1::PromptAgentSessionRequest;
use foundry_store::Store;

use super::{bindings, session, turn};
use crate::ops;
use crate::shared::Shared;
use crate::store::sessions;
use crate::testing::Fixture;
use crate::testing::agent::FakeAgent;

/// A session that is being opened, or the first prompt of one that is open.
struct Agents {
    f: Fixture,
    agent: FakeAgent,
    flow: &'static Flow<Shared>,
}

impl Agents {
    async fn new(flow: &'static Flow<Shared>) -> Self {
        let f = Fixture::new().await;
        let agent = FakeAgent::serve(&f).await;
        Self { f, agent, flow }
    }
}

#[async_trait]
impl World for Agents {
    fn store(&self) -> &Store {
        &self.f.shared.store
    }

    fn env(&self) -> &Env {
        &self.f.env.env
    }

    fn advance(&self, d: Duration) {
        self.f.env.clock.advance(d);
    }

    fn flows(&self) -> Vec<Binding> {
        // The proofs follow one flow; other flows that were started stay where they are.
        bindings(&self.f.shared).into_iter().filter(|b| b.kind() == self.flow.kind).collect()
    }

    async fn start(&self) -> Result<FlowId, Error> {
        let sandbox = self.f.ensure().await;
        self.f.run().await;
        let session = self.f.session(&sandbox).await;
        if self.flow.kind == session::SESSION.kind {
            return session.flow_id.parse();
        }
        self.f.run().await;
        let prompt = PromptAgentSessionRequest {
            session_id: session.session_id.to_string(),
            message_id: MessageId::generate(&self.f.env.env).to_string(),
            text: "hi".into(),
            ..Default::default()
        };
        ops::prompt_agent_session::prompt_agent_session(&self.f.shared, &self.f.task, prompt).await?;
        let turns = self.f.shared.store.query("SELECT flow_id FROM turns", &[]).await?;
        turns[0].text("flow_id")?.parse()
    }

    async fn effects(&self) -> Vec<String> {
        self.agent.asked()
    }

    async fn shown(&self) -> String {
        let store = &self.f.shared.store;
        let mut shown = String::new();
        for row in store.query("SELECT session_id FROM agent_sessions", &[]).await.unwrap() {
            let id = row.text("session_id").unwrap().parse().unwrap();
            let s = sessions::find(store, &id).await.unwrap().unwrap();
            let stages: Vec<_> = s.stages.iter().map(|st| (st.name.clone(), st.state())).collect();
            shown += &format!("{:?} {:?} {} {stages:?}\n", s.state, s.acp_session, s.last_offset);
        }
        for row in store.query("SELECT state, outcome FROM turns", &[]).await.unwrap() {
            shown += &format!("{} {}\n", row.text("state").unwrap(), row.int("outcome").unwrap());
        }
        shown
    }
}

/// In real time: the mock clock stands still while an agent is waited for that never answers.
const LIMIT: Duration = Duration::from_secs(300);

async fn proven(flow: &'static Flow<Shared>) {
    let proofs = prove(flow, async || Agents::new(flow).await);
    assert!(tokio::time::timeout(LIMIT, proofs).await.is_ok(), "the proofs of {} did not end", flow.kind);
}

#[tokio::test]
async fn the_session_flow_passes_all_proofs() {
    proven(&session::SESSION).await;
}

#[tokio::test]
async fn the_turn_job_passes_all_proofs() {
    proven(&turn::TURN).await;
}
