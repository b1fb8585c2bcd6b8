//! Updates of the agent's side of a session, without the rest of the task where that is enough.

use foundry_core::{Result, SessionId, TaskId};
use foundry_proto::provisioner::v1::AgentSession;
use foundry_store::WriteSet;

use super::apply;
use super::session_end::change_end;
use crate::context::Context;
use crate::domain::derive::Replica;
use crate::flow::change_with;

/// Applies the current state of a session's agent side. While a turn runs, nearly all updates say only how far its
/// events are, of which nothing is shown; for any other the task is loaded and derived. `put` adds what is to be written
/// with it.
pub async fn update(
    cx: &Context,
    task: &TaskId,
    agent: &AgentSession,
    rev: i64,
    put: &(impl Fn(&mut WriteSet) + Sync),
) -> Result<()> {
    if let Ok(session) = agent.session_id.parse::<SessionId>() {
        let alone = change_end(cx, task, &session, |end, ws| {
            put(ws);
            let known = end.agent.as_ref().is_some_and(|replica| replica.rev >= rev);
            apply::to_session(ws, &cx.env, &mut end.session, agent, known)?;
            if !known {
                end.agent = Some(Replica { rev, entity: agent.clone() });
            }
            Ok(())
        });
        if alone.await?.is_some() {
            return Ok(());
        }
    }
    change_with(cx, task, |aggregate, ws| apply::agent_session(ws, &cx.env, aggregate, agent, rev), put)
        .await?;
    Ok(())
}
