//! What an append to a transcript needs of its task: the session, its agent's side, and what lists show of the task.
//!
//! It is guarded by the task's fence, as every write of a part is; see [`super::aggregate`].

use foundry_core::{Env, Result, SessionId, TaskId};
use foundry_flow::signal;
use foundry_proto::provisioner::v1::AgentSession;
use foundry_proto::task::v1::TaskSummary;
use foundry_store::{Scope, Store, WriteSet};

use super::aggregate::{FOLLOW_TOPIC, session_key};
use super::{aggregate, sessions, summary, tasks, upstream};
use crate::domain::session::Session;

/// A session with what changes as its transcript grows.
pub struct TranscriptEnd {
    /// The task's fence before the rest was read.
    fence: i64,
    /// The session.
    pub session: Session,
    /// The agent's side of it; none before it was created.
    pub agent: Option<AgentSession>,
    /// What lists show of its task; none for a row that is still to be derived.
    summary: Option<TaskSummary>,
}

/// Reads the end of a session's transcript; none when the task or the session does not exist.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn load(store: &Store, task: &TaskId, session: &SessionId) -> Result<Option<TranscriptEnd>> {
    // The fence first: whatever changes after it fails the write.
    let Some(fence) = tasks::fence(store, task).await? else { return Ok(None) };
    let Some(session) = sessions::find(store, session).await? else { return Ok(None) };
    let parts = async {
        futures::try_join!(
            upstream::agent_session(store, &session.session_id),
            summary::task(store, &session.organization_id, task),
        )
    };
    let (agent, summary) = Box::pin(parts).await?;
    Ok(Some(TranscriptEnd { fence, session, agent: agent.map(|a| a.entity), summary }))
}

/// Adds the session after an append: its row and views, its offset in the lists, and the signal that its flow waits
/// for when it catches up with its agent.
pub fn write(ws: &mut WriteSet, env: &Env, before: &TranscriptEnd, after: &Session) {
    tasks::update_fence(ws, &after.task_id, before.fence, aggregate::fence(env));
    let revs = (before.session.view != after.view).then(|| {
        (ws.scope(Scope::organization(&after.organization_id)), ws.scope(Scope::session(&after.session_id)))
    });
    sessions::update(ws, revs, after);
    if let (Some((rev, _)), Some(summary)) = (revs, &before.summary) {
        let mut summary = summary.clone();
        let shown = summary.sessions.iter_mut().find(|s| s.session_id == after.session_id.as_str());
        if let Some(session) = shown {
            session.last_offset = after.view.last_offset;
            summary::update_task(ws, rev, &after.organization_id, summary);
        }
    }
    if after.follows != before.session.follows {
        ws.wake(FOLLOW_TOPIC);
    }
    let agent = before.agent.as_ref();
    if before.session.caught_up(agent) != after.caught_up(agent) {
        signal(ws, env, &session_key(after.session_id.as_str()));
    }
}
