//! A session: its creation in the sandbox, then the delivery of its messages, one turn at a time.
//!
//! A message is DELIVERING before it is handed over, and leaves the queue once the provisioner has
//! recorded its turn. Its id is the turn's, so that handing it over again starts no second turn.

use std::time::Duration;

use foundry_core::{Result, SessionId, TaskId};
use foundry_flow::{Flow, FlowStatus, NewFlow, Outcome, Stage, StageContext, stage};
use foundry_proto::provisioner::v1::{
    AgentSessionState, CreateAgentSessionRequest, PromptAgentSessionRequest, RetryAgentSessionRequest,
    SandboxState,
};
use foundry_server::RequestContext;
use serde::{Deserialize, Serialize};

use super::shown::Decided;
use super::{RETRY_FOREVER, call, change, gone, id, refused};
use crate::consume::apply;
use crate::context::Context;
use crate::domain::derive::{Aggregate, Replica};
use crate::domain::session::{MessageState, Session};
use crate::store::aggregate::{self, sandbox_key, session_key};
use crate::store::messages;

const LIMIT: Duration = Duration::from_secs(30);
/// Longest wait before a stage checks again, in case a signal was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The same while nothing but a message is awaited.
const LONG: Duration = Duration::from_secs(3600);
const WAITS_FOR_MESSAGE: &str = "waiting for a message";
/// Delay before a message is retried that was refused for now.
const REFUSED_FOR_NOW: Duration = Duration::from_secs(2);

const WAITS_FOR_SANDBOX: &str = "the sandbox is being provisioned";

/// Runs until the session or its task ends; stage `ready` delivers the messages.
pub static SESSION: Flow<Context> = Flow::new(
    "task_session",
    &[
        Stage::new("pending_provision", LIMIT, RETRY_FOREVER, |cx, ctx| stage(pending_provision(cx, ctx))),
        Stage::new("pending_session_create", LIMIT, RETRY_FOREVER, |cx, ctx| {
            stage(pending_session_create(cx, ctx))
        }),
        Stage::new("ready", LIMIT, RETRY_FOREVER, |cx, ctx| stage(ready(cx, ctx))),
    ],
)
.concurrency(64)
.brief();

#[derive(Serialize, Deserialize)]
struct Input {
    task_id: String,
}

/// The flow of a new session. Without a ready sandbox it waits for that from the beginning.
///
/// # Errors
/// When its input cannot be written as JSON.
pub fn new(session: &Session, sandbox: Option<SandboxState>, user_id: &str) -> Result<NewFlow> {
    let flow = NewFlow::new(
        &SESSION,
        session.flow.flow_id.clone(),
        session.session_id.as_str(),
        session.session_id.as_str(),
    )
    .organization(&session.organization_id)
    .on_behalf_of(user_id)
    .traced(RequestContext::current_traceparent())
    .input(&Input { task_id: session.task_id.to_string() })?;
    Ok(if sandbox == Some(SandboxState::Ready) {
        flow
    } else {
        flow.waiting_for(sandbox_key(&session.task_id), WAITS_FOR_SANDBOX, LOOK_AGAIN)
    })
}

/// The task of a session's flow; empty when its input cannot be read.
pub fn task_of(flow: &FlowStatus) -> &str {
    flow.input.get("task_id").and_then(serde_json::Value::as_str).unwrap_or_default()
}

struct Found {
    task: TaskId,
    session: SessionId,
    aggregate: Box<Aggregate>,
}

async fn load(cx: &Context, ctx: &StageContext) -> Result<Option<Found>> {
    let session: SessionId = id(&ctx.flow().subject_id)?;
    let task: TaskId = id(&ctx.input::<Input>()?.task_id)?;
    let aggregate = aggregate::load(&cx.store, &task).await?;
    let aggregate = aggregate.filter(|aggregate| aggregate.session(session.as_str()).is_some());
    if let Some(aggregate) = &aggregate {
        Decided::on(ctx, aggregate);
    }
    Ok(aggregate.map(|aggregate| Found { task, session, aggregate }))
}

/// Whether the session needs nothing more from its flow.
fn over(aggregate: &Aggregate, session: &SessionId) -> bool {
    aggregate.task.lifecycle != crate::domain::task::Lifecycle::Active
        || aggregate.session(session.as_str()).is_none_or(|s| s.closed)
}

fn wait(cx: &Context, key: String, message: &str, at_most: Duration) -> Outcome {
    Outcome::wait(key, message).until(cx.env.clock.now().plus(at_most))
}

async fn pending_provision(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let Some(Found { task, session, aggregate }) = load(cx, ctx).await? else { return Ok(gone()) };
    Ok(if over(&aggregate, &session) || aggregate.sandbox_state() == Some(SandboxState::Ready) {
        Outcome::done()
    } else {
        wait(cx, sandbox_key(&task), WAITS_FOR_SANDBOX, LOOK_AGAIN)
    })
}

async fn pending_session_create(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let Some(Found { session, mut aggregate, .. }) = load(cx, ctx).await? else { return Ok(gone()) };
    let key = session_key(session.as_str());
    let (Some(ours), false) = (aggregate.session(session.as_str()), over(&aggregate, &session)) else {
        return Ok(Outcome::done());
    };
    let Some(sandbox) = aggregate.sandbox.as_ref().filter(|_| aggregate.has_living_sandbox()) else {
        return Ok(Outcome::goto("pending_provision"));
    };
    let sandbox_id = sandbox.entity.sandbox_id.clone();
    let replica = aggregate.agents.get(session.as_str()).filter(|a| a.entity.sandbox_id == sandbox_id);
    let (agent, rev) = match replica {
        Some(a) if a.entity.state() == AgentSessionState::Error && ours.retry_rev == a.rev => {
            let request = RetryAgentSessionRequest {
                request_id: format!("{}/retry/{}", ctx.effect_name(), a.rev),
                session_id: session.to_string(),
                user_id: ctx.flow().user_id.clone(),
            };
            match call(&cx.env, cx.provisioner.clone().retry_agent_session(request)).await {
                Ok(answer) => (answer.agent_session, answer.rev),
                Err(e) => return Ok(refused(e)),
            }
        }
        Some(a) => (Some(a.entity.clone()), a.rev),
        None => {
            // Where only the copy here is damaged, the session exists and is returned as it is now: not the first answer
            // to this request, whose content may differ from what is known since.
            let damaged = aggregate.agents.get(session.as_str()).is_some_and(Replica::is_damaged);
            let request_id =
                if damaged { String::new() } else { format!("{}/{sandbox_id}", ctx.effect_name()) };
            let request = CreateAgentSessionRequest {
                request_id,
                sandbox_id,
                session_id: session.to_string(),
                agent: ours.asked_agent(),
                profile_id: ours.view.profile.clone(),
                permission_policy: ours.view.permission_policy,
                user_id: ctx.flow().user_id.clone(),
                settings: ours.asked.start.to_proto(),
            };
            match call(&cx.env, cx.provisioner.clone().create_agent_session(request)).await {
                Ok(answer) => (answer.agent_session, answer.rev),
                // Its previous sandbox has not ended yet; the session moves here once it has.
                Err(e) if e.code == tonic::Code::AlreadyExists => {
                    return Ok(Outcome::retry("SESSION_ELSEWHERE", e.message));
                }
                Err(e) => return Ok(refused(e)),
            }
        }
    };
    let Some(agent) = agent else {
        return Ok(Outcome::retry("ANSWER_INCOMPLETE", "the provisioner's response contains no session"));
    };
    Decided::to(ctx, &cx.env, &mut aggregate, move |env, aggregate, ws| {
        apply::agent_session(ws, env, aggregate, &agent, rev)
    })?;
    let Some(replica) = aggregate.agents.get(session.as_str()) else { return Ok(gone()) };
    Ok(match replica.entity.state() {
        AgentSessionState::Ready | AgentSessionState::Running | AgentSessionState::Interrupted => {
            Outcome::done()
        }
        AgentSessionState::Error
            if aggregate.session(session.as_str()).is_some_and(|s| s.retry_rev != replica.rev) =>
        {
            let condition = replica.entity.condition.clone().unwrap_or_default();
            let reason =
                if condition.reason.is_empty() { "SESSION_FAILED".to_owned() } else { condition.reason };
            Outcome::fail(reason, condition.message)
        }
        AgentSessionState::Closed => {
            // No person closed it, so its sandbox is ending; that update arrives soon.
            Outcome::retry("SESSION_CLOSED", "the agent's side of the session is closed")
        }
        _ => wait(cx, key, "the agent session is being created", LOOK_AGAIN),
    })
}

async fn ready(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let Some(Found { task, session, aggregate }) = load(cx, ctx).await? else { return Ok(gone()) };
    if over(&aggregate, &session) {
        return Ok(Outcome::done());
    }
    let key = session_key(session.as_str());
    let Some(agent) = aggregate.agent(session.as_str()) else {
        return Ok(Outcome::goto("pending_provision"));
    };
    let elsewhere = aggregate.sandbox.as_ref().is_some_and(|s| s.entity.sandbox_id != agent.sandbox_id);
    if elsewhere && aggregate.has_living_sandbox() {
        return Ok(Outcome::goto("pending_provision"));
    }
    let Some(message) = next(&aggregate, &session) else {
        return Ok(wait(cx, key, WAITS_FOR_MESSAGE, LONG));
    };
    let message = message.message_id.to_string();
    // Intent first: from here on the message can no longer be changed, so its text is read afterwards.
    let marked = mark(cx, &task, &message, MessageState::Queued, MessageState::Delivering).await?;
    let Some(mut aggregate) = marked else { return Ok(Outcome::goto("ready")) };
    let Some(said) = messages::said(&cx.store, &message).await? else {
        return Ok(Outcome::retry("MESSAGE_GONE", "the message has been removed"));
    };
    if said.damaged {
        // A person edits or removes it.
        mark(cx, &task, &message, MessageState::Delivering, MessageState::Queued).await?;
        hold(cx, &task, &session).await?;
        return Ok(wait(cx, key, "the stored files of the next message are damaged", LOOK_AGAIN));
    }
    let request = PromptAgentSessionRequest {
        request_id: message.clone(),
        session_id: session.to_string(),
        message_id: message.clone(),
        text: said.text,
        user_id: said.user,
        attachment_ids: said.attachments.into_iter().map(|a| a.attachment_id).collect(),
    };
    match call(&cx.env, cx.provisioner.clone().prompt_agent_session(request)).await {
        Ok(answer) => {
            let (ours, agent, rev) = (session.clone(), answer.agent_session, answer.rev);
            Decided::to(ctx, &cx.env, &mut aggregate, move |env, aggregate, ws| {
                for m in aggregate.messages.iter_mut().filter(|m| m.message_id.as_str() == message) {
                    m.state = MessageState::Delivered;
                }
                if let Some(session) = aggregate.session_mut(ours.as_str()) {
                    session.view.message_id.clone_from(&message);
                }
                match &agent {
                    Some(agent) => apply::agent_session(ws, env, aggregate, agent, rev),
                    None => Ok(()),
                }
            })?;
            Ok(match next(&aggregate, &session) {
                Some(_) => Outcome::goto("ready"),
                None => wait(cx, key, WAITS_FOR_MESSAGE, LONG),
            })
        }
        Err(e) if e.is_transient() => Ok(refused(e)),
        Err(e) => {
            // Certainly refused, so no turn runs: back to the queue.
            mark(cx, &task, &message, MessageState::Delivering, MessageState::Queued).await?;
            if e.code == tonic::Code::FailedPrecondition || e.code == tonic::Code::NotFound {
                return Ok(wait(cx, key, &e.message, REFUSED_FOR_NOW));
            }
            hold(cx, &task, &session).await?;
            Ok(wait(cx, key, &e.message, LOOK_AGAIN))
        }
    }
}

/// The next message to hand over, if the session can take one.
fn next<'a>(aggregate: &'a Aggregate, session: &SessionId) -> Option<&'a crate::domain::session::Message> {
    let ours = aggregate.session(session.as_str())?;
    let message = aggregate.queue(session.as_str()).next()?;
    if message.state == MessageState::Delivering {
        // The agent may or may not have it. Sending the same id again is safe and settles it.
        return Some(message);
    }
    let ready = ours.can_take(aggregate.agent(session.as_str())) && !ours.view.queue_held;
    ready.then_some(message)
}

/// Moves a message from one state to the next, and returns its task after that; none when it is in neither of the two.
async fn mark(
    cx: &Context,
    task: &TaskId,
    message: &str,
    from: MessageState,
    to: MessageState,
) -> Result<Option<Box<Aggregate>>> {
    let marked = change(cx, task, |aggregate, _| {
        let mut found = aggregate.messages.iter_mut().filter(|m| m.message_id.as_str() == message);
        Ok(found.next().is_some_and(|m| {
            if m.state == from {
                m.state = to;
            }
            m.state == to
        }))
    });
    Ok(marked.await?.filter(|(_, done)| *done).map(|(aggregate, _)| aggregate))
}

async fn hold(cx: &Context, task: &TaskId, session: &SessionId) -> Result<()> {
    change(cx, task, |aggregate, _| {
        if let Some(session) = aggregate.session_mut(session.as_str()) {
            session.view.queue_held = true;
        }
        Ok(())
    })
    .await?;
    Ok(())
}
