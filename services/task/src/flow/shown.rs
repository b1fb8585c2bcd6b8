//! How the flows of a task and of its sessions are shown: each transition derives the views of the task in its own
//! commit, together with what its stage changes in the task.

use std::sync::Arc;

use async_trait::async_trait;
use foundry_core::{Env, Result, SessionId, TaskId};
use foundry_flow::{Derived, FlowStatus, Found, Projection, StageContext, condition, newest_signal};
use foundry_store::{Value, WriteSet};

use super::{session, task};
use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::domain::task::FlowFacts;
use crate::store::aggregate::{self, STALE_TOPIC};
use crate::store::sessions::SESSIONS;
use crate::store::tasks::{TASKS, flow_columns};

type Change = dyn Fn(&Env, &mut Aggregate, &mut WriteSet) -> Result<()> + Send + Sync;

/// What a stage decided on, and what it changes in the task. Recorded with the end of its attempt.
pub(super) struct Decided {
    /// Fence of the task as the stage saw it.
    fence: i64,
    change: Option<Box<Change>>,
}

impl Decided {
    /// The stage decides on this state of the task, and changes nothing in it.
    pub(super) fn on(ctx: &StageContext, aggregate: &Aggregate) {
        ctx.found(Self { fence: aggregate.task.fence, change: None });
    }

    /// The stage changes the task. The change is made in the aggregate at once, and once more with the end of the attempt,
    /// on the task as it is then. A stage that waits afterwards must have decided so on the changed aggregate: its flow is
    /// not woken by the change.
    ///
    /// # Errors
    /// Those of the change.
    pub(super) fn to(
        ctx: &StageContext,
        env: &Env,
        aggregate: &mut Aggregate,
        change: impl Fn(&Env, &mut Aggregate, &mut WriteSet) -> Result<()> + Send + Sync + 'static,
    ) -> Result<()> {
        change(env, aggregate, &mut WriteSet::new())?;
        aggregate.refresh(env.clock.now());
        ctx.found(Self { fence: aggregate.task.fence, change: Some(Box::new(change)) });
        Ok(())
    }
}

/// The flow that provisions a task.
pub(super) struct OfTask(pub(super) Arc<Context>);

#[async_trait]
impl Projection for OfTask {
    /// Writes the flow's state to its task's row and marks the view stale.
    fn project(&self, flow: &FlowStatus) -> WriteSet {
        let mut ws = WriteSet::new();
        let mut set = flow_columns(flow, &condition(&task::PROVISION, flow));
        set.push(("stale", true.into()));
        set.push(("fence", aggregate::fence(&self.0.env).into()));
        let ours = [("task_id", Value::from(flow.subject_id.as_str())), ("flow_id", (&flow.flow_id).into())];
        ws.update_where(&TASKS, &ours, &set);
        ws.wake(STALE_TOPIC);
        ws
    }

    async fn derive(&self, flow: &FlowStatus, found: Option<&Found>) -> Result<Option<Derived>> {
        let Ok(id) = flow.subject_id.parse::<TaskId>() else { return Ok(None) };
        derive(&self.0, &id, flow, found, |aggregate| {
            let ours = &mut aggregate.task.flow;
            let is_ours = ours.flow_id == flow.flow_id;
            if is_ours {
                *ours = facts(flow, condition(&task::PROVISION, flow));
            }
            is_ours
        })
        .await
    }
}

/// The flow of a session.
pub(super) struct OfSession(pub(super) Arc<Context>);

#[async_trait]
impl Projection for OfSession {
    /// Writes the flow's state to its session's row and marks the task's view stale.
    fn project(&self, flow: &FlowStatus) -> WriteSet {
        let mut ws = WriteSet::new();
        let ours =
            [("session_id", Value::from(flow.subject_id.as_str())), ("flow_id", (&flow.flow_id).into())];
        ws.update_where(&SESSIONS, &ours, &flow_columns(flow, &condition(&session::SESSION, flow)));
        let stale = [("stale", Value::from(true)), ("fence", aggregate::fence(&self.0.env).into())];
        ws.update_where(&TASKS, &[("task_id", session::task_of(flow).into())], &stale);
        ws.wake(STALE_TOPIC);
        ws
    }

    async fn derive(&self, flow: &FlowStatus, found: Option<&Found>) -> Result<Option<Derived>> {
        let (Ok(id), Ok(session)) =
            (session::task_of(flow).parse::<TaskId>(), flow.subject_id.parse::<SessionId>())
        else {
            return Ok(None);
        };
        derive(&self.0, &id, flow, found, |aggregate| {
            let ours = aggregate.session_mut(session.as_str()).filter(|s| s.flow.flow_id == flow.flow_id);
            let is_ours = ours.is_some();
            if let Some(ours) = ours {
                ours.flow = facts(flow, condition(&session::SESSION, flow));
            }
            is_ours
        })
        .await
    }
}

fn facts(flow: &FlowStatus, condition: foundry_proto::common::v1::Condition) -> FlowFacts {
    FlowFacts {
        flow_id: flow.flow_id.clone(),
        stage: flow.stage.clone(),
        status: flow.status.as_str().to_owned(),
        condition,
    }
}

/// Loads the task, sets the flow's state in it, applies the stage's change, and derives the rest. None when the task or
/// session is gone, or has another flow.
async fn derive(
    cx: &Context,
    id: &TaskId,
    flow: &FlowStatus,
    found: Option<&Found>,
    set: impl Fn(&mut Aggregate) -> bool + Send,
) -> Result<Option<Derived>> {
    let turn = cx.writers.turn(id).await;
    let Some(before) = aggregate::load(&cx.store, id).await? else { return Ok(None) };
    let mut after = before.clone();
    if !set(&mut after) {
        return Ok(None);
    }
    let decided = found.and_then(|found| found.downcast_ref::<Decided>());
    let mut write = WriteSet::new();
    if let Some(change) = decided.and_then(|decided| decided.change.as_ref()) {
        change(&cx.env, &mut after, &mut write)?;
    }
    // All signals of the task come with a new fence. When it is still the one that the stage saw, the stage has seen
    // what they announced; and what this commit announces, the flow has done itself.
    // In a stale view it has not seen what only this commit derives.
    let unchanged = !before.task.stale && decided.is_some_and(|decided| decided.fence == before.task.fence);
    let awaited = flow.wait_key.as_deref().filter(|_| unchanged);
    let mut seen = match awaited {
        Some(key) => newest_signal(&cx.store, key).await?,
        None => String::new(),
    };
    let (_, mut signals) = aggregate::write_signalling(&mut write, &cx.env, &before, after);
    if let Some(signal) = awaited.and_then(|key| signals.remove(key)) {
        seen = signal;
    }
    Ok(Some(Derived { write, seen, held: Box::new(turn) }))
}
