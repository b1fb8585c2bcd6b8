//! The session flow: from a placeholder to a conversation that can be prompted.
//!
//! | stage            | does                                                              | limit |
//! |------------------|-------------------------------------------------------------------|-------|
//! | sandbox_awaited  | waits for the sandbox (not shown as a stage)                      | 10 s  |
//! | session_creating | installs the agent if it differs, initialize, session/new         | 6 min |
//! | ready            | begins to read the tap log, tells the transcript of a new agent   | 30 s  |

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{Error, FlowId, SessionId};
use foundry_flow::{
    Binding, Flow, FlowStatus, NewFlow, Outcome, Stage, StageContext, StageSpec, Status, enqueue,
};
use foundry_proto::common::v1::NoticeKind;
use foundry_sandbox::{AgentKind, Conversation, TapBody, TapCursor, TapReader};
use foundry_store::WriteSet;

use super::sandbox::ready_key;
use super::{Halt, PATIENT, outcome};
use crate::domain::fold::notice;
use crate::domain::{SESSION_STAGES, Sandbox, SandboxState, Session, SessionState};
use crate::runtime::{Pumps, cut};
use crate::shared::{Shared, acp_of, name_of};
use crate::store::{condition_value, sandboxes, sessions, stages};

/// Opens an agent session.
pub static SESSION: Flow = Flow::new(
    "agent_session",
    &[
        StageSpec::new("sandbox_awaited", Duration::from_secs(10), PATIENT),
        StageSpec::new("session_creating", Duration::from_secs(360), PATIENT),
        StageSpec::new("ready", Duration::from_secs(30), PATIENT),
    ],
)
.concurrency(64);

/// The sandbox is looked at again after this time, should its signal be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Adds the flow of a session.
pub fn enqueue_flow(ws: &mut WriteSet, session: &Session, flow_id: FlowId, traceparent: &str) {
    let id = session.session_id.as_str();
    let flow = NewFlow::new(&SESSION, flow_id, id, id).organization(&session.organization_id);
    enqueue(ws, flow.traced(traceparent));
}

/// The flow with its code.
pub fn binding(shared: &Arc<Shared>) -> Binding {
    let step = |step| Step { shared: Arc::clone(shared), step };
    Binding::new(&SESSION)
        .stage("sandbox_awaited", step(Does::Await))
        .stage("session_creating", step(Does::Create))
        .stage("ready", step(Does::Begin))
        .projection(project)
}

fn project(flow: &FlowStatus) -> WriteSet {
    let mut ws = WriteSet::new();
    let (Some(organization), Ok(id)) = (&flow.organization_id, flow.subject_id.parse::<SessionId>()) else {
        return ws;
    };
    stages::record(&mut ws, &flow.subject_id, flow, &SESSION_STAGES);
    let mut set = vec![("condition", condition_value(&super::condition(&SESSION, flow)))];
    match flow.status {
        Status::Done => set.push(("state", SessionState::Ready.as_str().into())),
        Status::Failed => set.push(("state", SessionState::Error.as_str().into())),
        Status::Cancelled => set.clear(),
        // Pending or interrupted until the sandbox is there: whoever enqueued this said which.
        _ if flow.stage == "sandbox_awaited" => {}
        _ => set.push(("state", SessionState::Creating.as_str().into())),
    }
    sessions::update_as(&mut ws, organization, &id, flow.flow_id.as_str(), set);
    ws
}

#[derive(Clone, Copy)]
enum Does {
    Await,
    Create,
    Begin,
}

struct Step {
    shared: Arc<Shared>,
    step: Does,
}

#[async_trait]
impl Stage for Step {
    async fn run(&self, ctx: &StageContext) -> Outcome {
        let result = async {
            let (session, sandbox) = self.load(ctx).await?;
            match self.step {
                Does::Await => Ok(self.wait(ctx, &sandbox)),
                Does::Create => self.create(ctx, &session, &sandbox).await,
                Does::Begin => self.begin(&session, &sandbox).await,
            }
        };
        outcome(result.await)
    }
}

impl Step {
    async fn load(&self, ctx: &StageContext) -> Result<(Session, Sandbox), Halt> {
        let id: SessionId = ctx.subject_id().parse()?;
        let session = sessions::find(&self.shared.store, &id).await?;
        let session = session.filter(|s| s.flow_id == ctx.flow_id().as_str());
        let Some(session) = session else {
            return Err(Outcome::fail("SUPERSEDED", "another flow moves this session now").into());
        };
        let sandbox = sandboxes::find(&self.shared.store, &session.sandbox_id).await?;
        match sandbox {
            Some(sandbox) if !sandbox.state.is_ending() => Ok((session, sandbox)),
            _ => Err(Outcome::fail("SANDBOX_GONE", "the sandbox of this session is destroyed").into()),
        }
    }

    fn wait(&self, ctx: &StageContext, sandbox: &Sandbox) -> Outcome {
        if sandbox.state == SandboxState::Ready {
            return Outcome::done();
        }
        let message =
            format!("SANDBOX_NOT_READY: waits for the sandbox, which is {}", sandbox.state.as_str());
        Outcome::wait(ready_key(&sandbox.sandbox_id), message).until(ctx.env().clock.now().plus(LOOK_AGAIN))
    }

    async fn create(
        &self,
        ctx: &StageContext,
        session: &Session,
        sandbox: &Sandbox,
    ) -> Result<Outcome, Halt> {
        let (Some(facts), SandboxState::Ready) = (&sandbox.facts, sandbox.state) else {
            return Ok(Outcome::goto("sandbox_awaited"));
        };
        let agent: AgentKind = session.agent.parse()?;
        self.shared.credentials.for_agent(agent)?;
        if session.agent != sandbox.agent {
            ctx.progress(format!("installing {agent}")).await;
            let provider = self.shared.providers.get(&sandbox.provider)?;
            provider.install_agent(&name_of(&sandbox.sandbox_id)?, agent).await?;
        }
        ctx.progress(format!("starting {agent}")).await;
        let acp = acp_of(session)?;
        let home = self.shared.host_home(sandbox)?;
        let attempt = session.attempt(sandbox.runtime_instance);
        let client = self.shared.clients.of_conversation(sandbox, &acp, ctx.env()).await?;
        if session.generation > 1 && !was_asked(&home, &acp, &attempt).await? {
            // The process of the generation before has ended and is still listed under this name.
            if let Err(e) = client.close(&acp).await {
                tracing::debug!(session = %acp, error = %e, "no agent process to close");
            }
        }
        let conversation = Conversation {
            client: &client,
            host_home: &home,
            acp: &acp,
            agent,
            credentials: &self.shared.credentials,
            workspace: facts.workspace.clone(),
            attempt: &attempt,
        };
        let opened = conversation.open(ctx.env()).await?;
        let mut ws = WriteSet::new();
        let set = vec![("acp_session", opened.session_id.into())];
        let flow = ctx.flow_id().as_str();
        sessions::update_as(&mut ws, &session.organization_id, &session.session_id, flow, set);
        Ok(Outcome::done().recording(ws))
    }

    async fn begin(&self, session: &Session, sandbox: &Sandbox) -> Result<Outcome, Halt> {
        if sandbox.state != SandboxState::Ready {
            return Ok(Outcome::goto("sandbox_awaited"));
        }
        if session.generation > session.told_generation {
            self.tell_new_agent(session).await?;
        }
        Pumps::ensure(&self.shared, &session.session_id);
        Ok(Outcome::done())
    }

    /// Tells the transcript once that a new agent does not know what is above.
    async fn tell_new_agent(&self, session: &Session) -> Result<(), Error> {
        let id = &session.session_id;
        let decide = || async {
            let mut ws = WriteSet::new();
            let session = sessions::find(&self.shared.store, id).await?;
            let Some(session) = session.filter(|s| s.generation > s.told_generation) else {
                return Ok((ws, ()));
            };
            let text = "the agent was started anew and does not remember what is above";
            let notices = match session.turn_count {
                0 => Vec::new(),
                _ => vec![notice(NoticeKind::ContextRebuilt, text)],
            };
            let mut set = cut(&mut ws, &session, None, notices, self.shared.env.clock.now());
            set.push(("told_generation", session.generation.into()));
            sessions::update(&mut ws, &session, set);
            Ok((ws, ()))
        };
        self.shared.store.retry_on_conflict(decide).await?;
        Ok(())
    }
}

/// Whether the log says that this attempt was begun.
async fn was_asked(
    home: &std::path::Path,
    acp: &foundry_sandbox::AcpId,
    attempt: &str,
) -> Result<bool, Halt> {
    let reader = TapReader::new(home, acp);
    let wanted = format!("{attempt}/initialize");
    let mut cursor = TapCursor::default();
    loop {
        let batch = reader.read(&cursor).await.map_err(foundry_sandbox::ProviderError::from)?;
        let asked = batch.events.iter().any(|e| match &e.body {
            TapBody::Message { json, .. } => {
                json.get("method").is_some() && json.get("id").and_then(|i| i.as_str()) == Some(&wanted)
            }
            _ => false,
        });
        if asked || !batch.more {
            return Ok(asked);
        }
        cursor = batch.next;
    }
}
