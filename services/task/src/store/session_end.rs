//! What changes as a turn goes on: how far a session's transcript is, and how far the events of its agent's side are.
//! Little else of the task follows from it, so that both change without the rest of the task.
//!
//! It is guarded by the task's fence, as every write of a part is; see [`super::aggregate`].

use foundry_core::{Env, Result, SessionId, TaskId};
use foundry_flow::signal;
use foundry_proto::provisioner::v1::AgentSession;
use foundry_store::{Scope, Store, WriteSet};

use super::aggregate::{FOLLOW_TOPIC, session_key};
use super::{aggregate, sessions, summary, tasks, upstream};
use crate::domain::derive::{Replica, unreadable};
use crate::domain::session::Session;

/// A session and its agent's side, loaded and written as one.
#[derive(Clone, PartialEq)]
pub struct SessionEnd {
    /// The task's fence before the rest was read.
    fence: i64,
    /// The session as it was read under that fence.
    pub session: Session,
    /// The agent's side of it; none before it was created.
    pub agent: Option<Replica<AgentSession>>,
}

impl SessionEnd {
    /// Derives whether the agent's events must be followed.
    pub fn refresh(&mut self) {
        self.session.follows = self.session.to_follow(self.agent.as_ref().map(|a| &a.entity));
    }

    fn can_take(&self) -> bool {
        self.session.can_take(self.agent.as_ref().map(|a| &a.entity))
    }
}

/// Reads the end of a session; none when the task does not exist or has no such session.
pub async fn load(store: &Store, task: &TaskId, session: &SessionId) -> Result<Option<Box<SessionEnd>>> {
    // The fence first: whatever changes after it fails the write.
    let Some(fence) = tasks::fence(store, task).await? else { return Ok(None) };
    let parts =
        async { futures::try_join!(sessions::find(store, session), upstream::agent_session(store, session)) };
    let (session, agent) = Box::pin(parts).await?;
    let session = session.filter(|s| s.task_id == *task);
    if let Some(damaged) = session.as_ref().filter(|s| s.damaged) {
        return Err(unreadable(damaged.session_id.as_str()));
    }
    Ok(session.map(|session| Box::new(SessionEnd { fence, session, agent })))
}

/// Adds the difference between two states of a session's end: the session's row and views, its offset in the lists, the
/// agent's side, and the signal that its flow waits for when its agent can take a message.
pub async fn write(
    ws: &mut WriteSet,
    store: &Store,
    env: &Env,
    before: &SessionEnd,
    after: &SessionEnd,
) -> Result<()> {
    let session = &after.session;
    tasks::update_fence(ws, &session.task_id, before.fence, aggregate::fence(env));
    if before.session != *session {
        write_session(ws, store, &before.session, session).await?;
    }
    if let Some(agent) = after.agent.as_ref().filter(|_| before.agent != after.agent) {
        upstream::put_agent_session(ws, agent);
    }
    if session.follows != before.session.follows {
        ws.wake(FOLLOW_TOPIC);
    }
    if before.can_take() != after.can_take() {
        signal(ws, env, &session_key(session.session_id.as_str()));
    }
    Ok(())
}

async fn write_session(ws: &mut WriteSet, store: &Store, before: &Session, after: &Session) -> Result<()> {
    if before.view == after.view {
        sessions::update(ws, None, before, after);
        return Ok(());
    }
    let rev = ws.scope(Scope::organization(&after.organization_id));
    let feed = ws.scope(Scope::session(&after.session_id));
    sessions::update(ws, Some((rev, feed)), before, after);
    let summary = summary::task(store, &after.organization_id, &after.task_id).await?;
    // A row that is still to be derived has none.
    let Some(mut summary) = summary else { return Ok(()) };
    let shown = summary.sessions.iter_mut().find(|s| s.session_id == after.session_id.as_str());
    if let Some(session) = shown {
        session.last_offset = after.view.last_offset;
        summary::update_task(ws, rev, &after.organization_id, summary);
    }
    Ok(())
}
