//! Gives back the space of ended tasks: once the transcript of a session holds everything, the provisioner need not keep
//! its events.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Result};
use foundry_proto::provisioner::v1::AgentSessionState;
use foundry_store::WriteSet;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::flow::change_damaged_too;
use crate::flow::provisioner_call::{self, ProvisionerCall};
use crate::store::aggregate::ENDED_TOPIC;
use crate::store::sessions;

/// Pause between two rounds, unless a task ends: nobody waits for the space.
const PAUSE: Duration = Duration::from_secs(300);
/// Most sessions in one query.
const AT_A_TIME: u32 = 100;

pub(super) async fn run(cx: Arc<Context>, stop: CancellationToken) {
    let mut woken = cx.store.subscribe_topic(ENDED_TOPIC);
    loop {
        woken.mark_seen();
        if let Err(e) = release(&cx).await {
            tracing::warn!(error = ?e, "ended tasks could not be read; retrying");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = woken.changed() => {}
            () = cx.env.clock.sleep(PAUSE) => {}
        }
    }
}

/// Releases the events of all ended tasks as far as their transcripts are complete.
///
/// # Errors
/// When the tasks cannot be read.
pub(crate) async fn release(cx: &Context) -> Result<()> {
    let mut after = String::new();
    loop {
        let found = sessions::unreleased(&cx.store, &after, AT_A_TIME).await?;
        let Some((last, _)) = found.last() else { return Ok(()) };
        after = last.to_string();
        let mut tasks: Vec<_> = found.into_iter().map(|(_, task)| task).collect();
        tasks.sort();
        tasks.dedup();
        for task in &tasks {
            let decide = |aggregate: &mut Aggregate, ws: &mut WriteSet| complete(ws, &cx.env, aggregate);
            // One task that cannot be written must not block the others.
            if let Err(e) = change_damaged_too(cx, task, decide, |_| {}).await {
                tracing::warn!(%task, error = ?e, "the events of an ended task could not be released");
            }
        }
    }
}

/// Releases the events of the sessions of an ended task whose transcripts are complete: the agent's side is closed, so
/// there are no further events.
fn complete(ws: &mut WriteSet, env: &Env, aggregate: &mut Aggregate) -> Result<()> {
    if !aggregate.task.lifecycle.has_ended() {
        return Ok(());
    }
    for session in &mut aggregate.sessions {
        let agent = aggregate.agents.get(session.session_id.as_str()).map(|replica| &replica.entity);
        let closed = agent.is_none_or(|agent| agent.state() == AgentSessionState::Closed);
        if session.released || !closed || !session.caught_up(agent) {
            continue;
        }
        session.released = true;
        let Some(agent) = agent else { continue };
        let call = ProvisionerCall::ReleaseEvents {
            session_id: agent.session_id.clone(),
            stored_offset: agent.last_offset,
        };
        provisioner_call::send(ws, env, &session.organization_id, &agent.session_id, "", &call)?;
    }
    Ok(())
}
