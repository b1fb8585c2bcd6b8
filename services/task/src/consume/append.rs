//! Agent events appended to a transcript, without the rest of the task where that is enough.

use foundry_core::{Result, SessionId, TaskId};
use foundry_proto::provisioner::v1::AgentEvent;

use super::apply::{self, Texts};
use super::session_end::change_end;
use crate::context::Context;
use crate::flow::change;

/// Appends events to the transcript of a session, and returns the offset up to which it holds all of them
/// (`i64::MAX` when the session is gone). Nearly all events change nothing but the end of the transcript; those that
/// also hold the queue change what is shown of the task, which is then loaded and derived.
pub async fn append(
    cx: &Context,
    task: &TaskId,
    session: &SessionId,
    events: &[AgentEvent],
    texts: &Texts,
) -> Result<i64> {
    let alone =
        change_end(cx, task, session, |end, ws| Ok(apply::events(ws, &mut end.session, events, texts)));
    if let Some(reached) = alone.await? {
        return Ok(reached);
    }
    let changed = change(cx, task, |aggregate, ws| {
        let session = aggregate.session_mut(session.as_str());
        Ok(session.map_or(i64::MAX, |session| apply::events(ws, session, events, texts)))
    });
    Ok(changed.await?.map_or(i64::MAX, |(_, reached)| reached))
}
