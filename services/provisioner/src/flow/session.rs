//! The session flow: from a placeholder to a conversation that can be prompted.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Error, FlowId, SessionId};
use foundry_flow::{
    Flow, FlowStatus, NewFlow, Outcome, Projection, Stage, StageContext, Status, enqueue, stage,
};
use foundry_proto::common::v1::NoticeKind;
use foundry_runtime_client::{Conversation, Opened};
use foundry_store::WriteSet;
use serde::{Deserialize, Serialize};

use super::sandbox::ready_key;
use super::{RETRY_LONG, StageError, agent};
use crate::domain::fold::notice;
use crate::domain::{SESSION_STAGES, Sandbox, SandboxState, Session, SessionState};
use crate::runtime::{Pumps, append_to_transcript, wake};
use crate::shared::{Shared, acp_of};
use crate::store::{Set, condition_value, sandboxes, sessions, stages};

/// Opens an agent session.
pub static SESSION: Flow<Shared> = Flow::new(
    "agent_session",
    &[
        // Not shown as a stage.
        Stage::new("sandbox_awaited", Duration::from_secs(10), RETRY_LONG, |shared, ctx| {
            stage(wait(shared, ctx))
        }),
        Stage::new("session_creating", Duration::from_secs(360), RETRY_LONG, |shared, ctx| {
            stage(create(shared, ctx))
        }),
        Stage::new("ready", Duration::from_secs(30), RETRY_LONG, |shared, ctx| stage(begin(shared, ctx))),
    ],
)
.concurrency(64);

/// The sandbox is checked again after this time, in case its signal was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Adds the flow of a session.
pub fn enqueue_flow(ws: &mut WriteSet, session: &Session, flow_id: FlowId, traceparent: &str) {
    let id = session.session_id.as_str();
    let flow = NewFlow::new(&SESSION, flow_id, id, id).organization(&session.organization_id);
    enqueue(ws, flow.traced(traceparent));
}

/// What a transition of the flow changes in its session's row.
pub fn projection(env: &Env) -> impl Projection + use<> {
    let env = env.clone();
    move |flow: &FlowStatus| project(flow, &env)
}

fn project(flow: &FlowStatus, env: &Env) -> WriteSet {
    let mut ws = WriteSet::new();
    let (Some(organization), Ok(id)) = (&flow.organization_id, flow.subject_id.parse::<SessionId>()) else {
        return ws;
    };
    stages::record(&mut ws, &flow.subject_id, flow, &SESSION_STAGES);
    let mut set = vec![("condition", condition_value(&super::condition(&SESSION, flow)))];
    match flow.status {
        Status::Done => {
            set.push(("state", SessionState::Ready.as_str().into()));
            wake(&mut ws, env, &id);
        }
        Status::Failed => set.push(("state", SessionState::Error.as_str().into())),
        Status::Cancelled => set.clear(),
        // Pending or interrupted until the sandbox is there, as set when the flow was added.
        _ if flow.stage == "sandbox_awaited" => {}
        _ => set.push(("state", SessionState::Creating.as_str().into())),
    }
    sessions::update_as(&mut ws, organization, &id, flow.flow_id.as_str(), set);
    ws
}

/// Handed from `session_creating` to `ready`.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    /// Whether the agent remembers the conversation so far.
    remembers: bool,
    /// Values that a person chose before the start and the agent does not accept.
    #[serde(default)]
    passed_over: Vec<String>,
    /// Options that were chosen later and the agent does not offer.
    #[serde(default)]
    unknown: Vec<String>,
}

async fn load(shared: &Arc<Shared>, ctx: &StageContext) -> Result<(Session, Sandbox), StageError> {
    let id: SessionId = ctx.subject_id().parse()?;
    let session = sessions::find(&shared.store, &id).await?;
    let session = session.filter(|s| s.flow_id == ctx.flow_id().as_str());
    let Some(session) = session else {
        return Err(Outcome::fail("SUPERSEDED", "another flow has taken over this session").into());
    };
    let sandbox = sandboxes::find(&shared.store, &session.sandbox_id).await?;
    match sandbox {
        Some(sandbox) if !sandbox.state.is_ending() => Ok((session, sandbox)),
        _ => Err(Outcome::fail("SANDBOX_GONE", "the sandbox of this session is destroyed").into()),
    }
}

/// Waits for the sandbox.
async fn wait(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let (_, sandbox) = load(shared, ctx).await?;
    if sandbox.state == SandboxState::Ready {
        return Ok(Outcome::done());
    }
    let message = format!("waiting for the sandbox, which is {}", sandbox.state.as_str());
    Ok(Outcome::wait(ready_key(&sandbox.sandbox_id), message)
        .because("SANDBOX_NOT_READY")
        .until(ctx.env().clock.now().plus(LOOK_AGAIN)))
}

/// Installs and starts the agent; it resumes or loads its earlier session, or opens a new one.
async fn create(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let (session, sandbox) = &load(shared, ctx).await?;
    let (Some(facts), SandboxState::Ready) = (&sandbox.facts, sandbox.state) else {
        return Ok(Outcome::goto("sandbox_awaited"));
    };
    let token = facts.key.model_token(session.session_id.as_str());
    let (organization, profile) =
        (&session.organization_id, (session.profile_id.as_str(), &session.offer.start));
    let chosen = session.offer.to_apply();
    let started = agent::start(shared, organization, &session.agent, profile, &token).await?;
    let agent::Start { entry, launch, mcp_servers, provider } = started;
    ctx.progress(format!("installing {}", entry.display_name())).await;
    let places = agent::install(shared, ctx, sandbox, &session.agent).await?;
    ctx.progress(format!("starting {}", entry.display_name())).await;
    let acp = acp_of(session)?;
    let attempt = session.attempt(sandbox.runtime_instance);
    let conversation = Conversation {
        client: &shared.client(sandbox)?,
        acp: &acp,
        agent: entry.name(),
        command: entry.command(&places),
        launch: &launch,
        mcp_servers: &mcp_servers,
        home: facts.home.clone(),
        workspace: facts.workspace.clone(),
        attempt: &attempt,
        earlier: Some(session.acp_session.as_str()).filter(|s| !s.is_empty() && session.generation > 1),
        chosen: &chosen,
    };
    // Recorded before the agent starts, because it may call a model while it opens the session.
    record(shared, ctx, session, vec![("model_provider_id", provider.into())]).await?;
    let opened = match conversation.open(ctx.env()).await {
        Ok(opened) => opened,
        Err(e) => {
            // The next attempt starts a new agent process: this one would only repeat its answers.
            if let Err(e) = conversation.client.close(&acp).await {
                tracing::debug!(session = %acp, error = %e, "the agent that could not be opened was not ended");
            }
            if e.reason == "AGENT_START_TIMEOUT" && conversation.earlier.is_some() {
                // Perhaps the earlier session cannot be reopened: the next attempt opens a new one.
                record(shared, ctx, session, vec![("acp_session", "".into())]).await?;
            }
            return Err(e.into());
        }
    };
    let mut ws = WriteSet::new();
    let kinds = opened.initialized.prompt_kinds().join(",");
    let set = vec![("acp_session", opened.session_id.into()), ("prompt_kinds", kinds.into())];
    let flow = ctx.flow_id().as_str();
    sessions::update_as(&mut ws, &session.organization_id, &session.session_id, flow, set);
    let Opened { remembers, passed_over, unknown, .. } = opened;
    let memory = Memory { remembers, passed_over, unknown };
    Ok(Outcome::done().recording(ws).with_state(&memory))
}

/// Writes columns that are not shown, as long as no other flow has taken over the session.
async fn record(shared: &Arc<Shared>, ctx: &StageContext, session: &Session, set: Set) -> Result<(), Error> {
    let mut ws = WriteSet::new();
    let flow = ctx.flow_id().as_str();
    sessions::update_as(&mut ws, &session.organization_id, &session.session_id, flow, set);
    shared.store.commit(ws).await?;
    Ok(())
}

/// Starts the session's pump, and adds notices about a restarted agent to the transcript.
async fn begin(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let (session, sandbox) = &load(shared, ctx).await?;
    if sandbox.state != SandboxState::Ready {
        return Ok(Outcome::goto("sandbox_awaited"));
    }
    let memory = ctx.state::<Memory>().unwrap_or_default();
    let refused = !memory.passed_over.is_empty() || !memory.unknown.is_empty();
    if refused || session.generation > session.reported_generation {
        append_restart_notices(shared, session, &memory).await?;
    }
    Pumps::ensure(shared, &session.session_id);
    Ok(Outcome::done())
}

/// Adds notices to the transcript, once: that the agent was restarted and has forgotten the conversation, and which
/// choices it does not accept.
async fn append_restart_notices(
    shared: &Arc<Shared>,
    session: &Session,
    memory: &Memory,
) -> Result<(), Error> {
    let id = &session.session_id;
    let decide = || async {
        let mut ws = WriteSet::new();
        let now = shared.env.clock.now();
        let Some(session) = sessions::find(&shared.store, id).await? else { return Ok((ws, ())) };
        let mut offer = session.offer.clone();
        for option in &memory.unknown {
            offer.refuse(option, "OPTION_UNKNOWN", "the restarted agent does not offer it", now);
        }
        let text = "the agent was restarted and does not remember the conversation above";
        let restarted = session.generation > session.reported_generation;
        let forgot = restarted && session.turn_count > 0 && !memory.remembers;
        let mut notices: Vec<_> =
            forgot.then(|| notice(NoticeKind::ContextRebuilt, text)).into_iter().collect();
        let fresh = memory.passed_over.iter().filter(|value| !session.offer.passed_over.contains(value));
        notices.extend(fresh.map(|value| {
            let text = format!("the agent does not accept {value:?} and continues without it");
            notice(NoticeKind::SettingRefused, text)
        }));
        offer.passed_over.clone_from(&memory.passed_over);
        if !restarted && notices.is_empty() && offer == session.offer {
            return Ok((ws, ()));
        }
        let mut set = append_to_transcript(&mut ws, &session, None, notices, now);
        set.push(("told_generation", session.generation.into()));
        set.push(("offer", sessions::json(&offer)?));
        sessions::update(&mut ws, &session, set);
        Ok((ws, ()))
    };
    shared.store.retry_on_conflict(decide).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
