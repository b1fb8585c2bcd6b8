//! A task and everything that belongs to it, read and written as one.
//!
//! Every write to any part replaces the task's `fence`, and names the fence that it read. So the parts may be read one
//! after the other: if another write came between, this write fails and is decided again.

use std::collections::BTreeMap;

use foundry_core::{Env, Result, TaskId};
use foundry_flow::signal_by_name;
use foundry_proto::provisioner::v1::{AgentSessionState, SandboxState};
use foundry_proto::task::v1::SessionState;
use foundry_store::{Reader, RevRef, Scope, Store, WriteSet};

use super::auto_fix::{self, Stepped};
use super::{messages, sessions, summary, tasks, upstream};
use crate::domain::derive::Aggregate;
use crate::domain::session::Session;
use crate::domain::task::Task;
use crate::projection::organization;

/// Topic woken when the sessions whose events must be followed have changed.
pub const FOLLOW_TOPIC: &str = "task/follow";
/// Topic woken when a task has ended.
pub const ENDED_TOPIC: &str = "task/ended";
/// Topic woken when a flow has changed something that a view does not show yet.
pub const STALE_TOPIC: &str = "task/stale";

/// Signal key for flows that wait for a change of a task's sandbox or lifecycle.
pub fn sandbox_key(task: &TaskId) -> String {
    format!("sandbox/{task}")
}

/// Signal key for flows that wait for a change of a session, its agent side or its queue.
pub fn session_key(session: &str) -> String {
    format!("session/{session}")
}

/// Reads a task aggregate.
///
/// # Errors
/// `DATA_LOSS` `STORED_DATA_DAMAGED` when the row of the task or of a session cannot be decoded, `INTERNAL` when the
/// database fails.
pub async fn load(store: &Store, id: &TaskId) -> Result<Option<Box<Aggregate>>> {
    let found = load_damaged_too(store, id).await?;
    found.map(|aggregate| aggregate.require_readable().map(|()| aggregate)).transpose()
}

/// The same for reads, and for what ends a task: of a row that cannot be decoded, only the columns are known.
pub async fn load_damaged_too(store: &Store, id: &TaskId) -> Result<Option<Box<Aggregate>>> {
    store.count_load();
    read(store, id).await
}

/// As [`load_damaged_too`], from a store or a snapshot. Reads that answer a caller need a snapshot: only writes are fenced.
pub async fn read(from: &impl Reader, id: &TaskId) -> Result<Option<Box<Aggregate>>> {
    // The fence comes first: a change after it makes the write fail.
    let Some(mut task) = tasks::find(from, id).await? else { return Ok(None) };
    if task.damaged {
        recall(from, &mut task).await?;
    }
    let parts = async {
        futures::try_join!(sessions::of_task(from, id), upstream::of_task(from, id), messages::open(from, id),)
    };
    let (sessions, upstream::OfTask { sandbox, agents, work }, messages) = Box::pin(parts).await?;
    let agents = agents.into_iter().map(|a| (a.entity.session_id.clone(), a)).collect();
    Ok(Some(Box::new(Aggregate { task, sessions, sandbox, agents, work, messages })))
}

/// Takes what lists show of a task into what stands for its view.
async fn recall(from: &impl Reader, task: &mut Task) -> Result<()> {
    if let Some(known) = summary::task(from, &task.organization_id, &task.task_id).await? {
        task.view.title = known.title;
        task.view.created_by = known.created_by;
        task.view.update_time = known.update_time;
    }
    Ok(())
}

/// A task and its sessions, read from one snapshot. Reads that answer a caller need one: only writes are fenced.
pub async fn of_one_moment(store: &Store, id: &TaskId) -> Result<Option<(Task, Vec<Session>)>> {
    let moment = store.snapshot().await?;
    let Some(mut task) = tasks::find(&moment, id).await? else { return Ok(None) };
    if task.damaged {
        recall(&moment, &mut task).await?;
    }
    Ok(Some((task, sessions::of_task(&moment, id).await?)))
}

/// A new random fence; no two writes get the same.
pub fn fence(env: &Env) -> i64 {
    let mut bytes = [0; 8];
    env.random.fill(&mut bytes);
    i64::from_le_bytes(bytes)
}

/// Adds the difference between two states of a task to a write set: rows, views, the summary, and the signals that
/// flows wait for. New sessions are inserted. Of messages, only their state is written; ops write the rest.
pub fn write(ws: &mut WriteSet, env: &Env, before: &Aggregate, after: Box<Aggregate>) -> Box<Aggregate> {
    write_signalling(ws, env, before, after).0
}

/// The same; also returns the signals, by key, that announce what the caller has decided.
pub fn write_signalling(
    ws: &mut WriteSet,
    env: &Env,
    before: &Aggregate,
    mut after: Box<Aggregate>,
) -> (Box<Aggregate>, BTreeMap<String, String>) {
    crate::domain::fix::settle(&mut after);
    after.refresh(env.clock.now());
    let stepped = auto_fix::take_step(ws, env, &mut after);
    if !matches!(stepped, Stepped::Not) {
        after.refresh(env.clock.now());
    }
    after.task.fence = fence(env);
    let scope = Scope::organization(&after.task.organization_id);
    let changed = before.task.view != after.task.view;
    let rev = changed.then(|| ws.scope(scope.clone()));
    tasks::update(ws, rev, &before.task, &after.task);
    write_sessions(ws, before, &after, &scope);
    write_upstream(ws, before, &after);
    write_messages(ws, before, &after);
    let row = organization::of_task(&after);
    if organization::of_task(before) != row {
        let rev = ws.scope(scope);
        summary::put(ws, rev, &after.task.organization_id, &row);
    }
    let mut signals = signals(ws, env, before, &after);
    if let Stepped::Sent(session) = stepped {
        // The flow whose state is being written has not seen the message.
        signals.remove(&session_key(session.as_str()));
    }
    (after, signals)
}

fn write_sessions(ws: &mut WriteSet, before: &Aggregate, after: &Aggregate, scope: &Scope) {
    for session in &after.sessions {
        let old = before.session(session.session_id.as_str());
        if old == Some(session) {
            continue;
        }
        let revs = |ws: &mut WriteSet| -> (RevRef, RevRef) {
            (ws.scope(scope.clone()), ws.scope(Scope::session(&session.session_id)))
        };
        match old {
            None => {
                let (rev, feed) = revs(ws);
                sessions::insert(ws, rev, feed, session);
            }
            Some(old) => {
                let revs_if_changed = (old.view != session.view).then(|| revs(ws));
                sessions::update(ws, revs_if_changed, old, session);
                if session.follows != old.follows {
                    ws.wake(FOLLOW_TOPIC);
                }
            }
        }
    }
}

fn write_upstream(ws: &mut WriteSet, before: &Aggregate, after: &Aggregate) {
    if let Some(sandbox) = after.sandbox.as_ref().filter(|s| before.sandbox.as_ref() != Some(s)) {
        upstream::put_sandbox(ws, sandbox);
    }
    for (id, agent) in &after.agents {
        if before.agents.get(id) != Some(agent) {
            upstream::put_agent_session(ws, agent);
        }
    }
    if let Some(work) = after.work.as_ref().filter(|w| before.work.as_ref() != Some(w)) {
        upstream::put_work(ws, work);
    }
}

fn write_messages(ws: &mut WriteSet, before: &Aggregate, after: &Aggregate) {
    for message in &after.messages {
        let old = before.messages.iter().find(|m| m.message_id == message.message_id);
        if old.is_some_and(|m| m.state != message.state) {
            let rev = ws.scope(Scope::session(&message.session_id));
            messages::update_state(ws, rev, message);
        }
    }
}

/// Wakes the flows that wait for what has changed.
fn signals(ws: &mut WriteSet, env: &Env, before: &Aggregate, after: &Aggregate) -> BTreeMap<String, String> {
    let mut keys = Vec::new();
    let sandbox = |a: &Aggregate| {
        // One that is only being made is as good as none.
        let made =
            a.sandbox.as_ref().filter(|s| awaited_of_sandbox(s.entity.state()) != SandboxState::Queued);
        made.map(|s| {
            let failed = (s.entity.state() == SandboxState::Error).then_some(s.rev);
            (s.entity.sandbox_id.clone(), awaited_of_sandbox(s.entity.state()), failed)
        })
    };
    if sandbox(before) != sandbox(after) || before.task.lifecycle != after.task.lifecycle {
        keys.push(sandbox_key(&after.task.task_id));
    }
    for session in &after.sessions {
        let old = before.session(session.session_id.as_str());
        if old.is_some_and(|old| awaited(before, old) != awaited(after, session)) {
            keys.push(session_key(session.session_id.as_str()));
        }
    }
    keys.into_iter().map(|key| (key.clone(), signal_by_name(ws, env, &key))).collect()
}

/// The facts on which a session's flow depends while it waits.
fn awaited(aggregate: &Aggregate, session: &Session) -> impl PartialEq + use<> {
    let id = session.session_id.as_str();
    let agent = aggregate.agents.get(id).map(|a| {
        let failed = (a.entity.state() == AgentSessionState::Error).then_some(a.rev);
        (awaited_of_agent(a.entity.state()), a.entity.sandbox_id.clone(), failed)
    });
    let next = aggregate.queue(id).next();
    let next = next.map(|m| m.message_id.clone());
    // After a move to another sandbox, the agent's side is created again.
    let moved_to = agent.as_ref().and_then(|(_, of, _)| {
        aggregate.sandbox.as_ref().map(|s| s.entity.sandbox_id.clone()).filter(|id| id != of)
    });
    let agent = (agent, moved_to);
    (
        agent,
        session.can_take(aggregate.agent(id)),
        session.view.queue_held,
        session.closed,
        awaited_of_session(session.view.state()),
        next,
    )
}

/// The states of a sandbox that flows distinguish, each represented by one of them. No flow depends on which step before
/// the installation of the agent is running.
fn awaited_of_sandbox(state: SandboxState) -> SandboxState {
    match state {
        SandboxState::Allocating | SandboxState::PreparingRepo => SandboxState::Queued,
        SandboxState::StartingAgent => SandboxState::InstallingAgent,
        other => other,
    }
}

/// The states of an agent's side that flows distinguish. Whether it can take a message is a fact of its own.
fn awaited_of_agent(state: AgentSessionState) -> AgentSessionState {
    match state {
        AgentSessionState::Creating => AgentSessionState::Pending,
        AgentSessionState::Running | AgentSessionState::Interrupted => AgentSessionState::Ready,
        other => other,
    }
}

/// The states of a session that flows distinguish: no flow depends on which of those after its creation it is in.
fn awaited_of_session(state: SessionState) -> SessionState {
    match state {
        SessionState::Running | SessionState::Idle | SessionState::Interrupted => SessionState::Ready,
        other => other,
    }
}
