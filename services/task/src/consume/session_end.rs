//! Changes at the end of a session, without the rest of its task where that is enough.

use foundry_core::{Result, SessionId, TaskId};
use foundry_proto::provisioner::v1::AgentSessionState;
use foundry_store::{CommitError, WriteSet};

use crate::context::Context;
use crate::flow::MAX_CHANGES;
use crate::store::session_end::{self, SessionEnd};
use crate::view;

/// Loads the end of a session, changes it and writes it; starts over when another writer came between. None when the
/// change is more than [`session_end`] writes, or the task has no such session: nothing was written then.
pub(super) async fn change_end<T>(
    cx: &Context,
    task: &TaskId,
    session: &SessionId,
    decide: impl Fn(&mut SessionEnd, &mut WriteSet) -> Result<T>,
) -> Result<Option<T>> {
    let _turn = cx.writers.turn(task).await;
    let begun = cx.env.clock.now();
    let mut tries = 0;
    loop {
        tries += 1;
        let Some(before) = session_end::load(&cx.store, task, session).await? else { return Ok(None) };
        let mut ws = WriteSet::new();
        let mut after = before.clone();
        let decided = decide(&mut after, &mut ws)?;
        if !differs_at_its_end_alone(&before, &after) {
            return Ok(None);
        }
        after.refresh();
        if after == before {
            return Ok(Some(decided));
        }
        session_end::write(&mut ws, &cx.store, &cx.env, &before, &after).await?;
        match cx.store.commit(ws).await {
            Ok(_) => {
                if after.session.view != before.session.view {
                    cx.hub.observer().updated(view::organization::NAME, cx.env.clock.now().since(begun));
                }
                return Ok(Some(decided));
            }
            Err(CommitError::GuardFailed { .. } | CommitError::Conflict { .. }) if tries < MAX_CHANGES => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn differs_at_its_end_alone(before: &SessionEnd, after: &SessionEnd) -> bool {
    let mut expected = before.session.clone();
    expected.event_offset = after.session.event_offset;
    expected.spoken_for.clone_from(&after.session.spoken_for);
    expected.spoken_here = after.session.spoken_here;
    expected.view.last_offset = after.session.view.last_offset;
    expected == after.session && agent_differs_at_its_end_alone(before, after)
}

fn agent_differs_at_its_end_alone(before: &SessionEnd, after: &SessionEnd) -> bool {
    match (&before.agent, &after.agent) {
        (Some(old), Some(new)) if old != new => {
            let mut expected = old.entity.clone();
            expected.last_offset = new.entity.last_offset;
            // The flow waits for every revision of one that failed, and a retry names it.
            expected == new.entity && new.entity.state() != AgentSessionState::Error
        }
        (old, new) => old == new,
    }
}
