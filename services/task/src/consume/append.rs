//! Agent events appended to a transcript, without the rest of the task where that is enough.

use foundry_core::{Env, Result, SessionId, TaskId};
use foundry_proto::provisioner::v1::AgentEvent;
use foundry_store::{CommitError, WriteSet};

use super::apply::{self, Texts};
use crate::context::Context;
use crate::domain::session::Session;
use crate::flow::{MAX_CHANGES, change};
use crate::store::transcript_end::{self, TranscriptEnd};
use crate::view;

/// Appends events to the transcript of a session, and returns the offset up to which it holds all of them
/// (`i64::MAX` when the session is gone). Nearly all events change nothing but the end of the transcript; those that
/// also hold the queue change what is shown of the task, which is then loaded and derived.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn append(
    cx: &Context,
    task: &TaskId,
    session: &SessionId,
    events: &[AgentEvent],
    texts: &Texts,
) -> Result<i64> {
    match append_alone(cx, task, session, events, texts).await? {
        Appended::UpTo(offset) => Ok(offset),
        Appended::ChangesMore => {
            let changed = change(cx, task, |aggregate, ws| {
                let session = aggregate.session_mut(session.as_str());
                Ok(session.map_or(i64::MAX, |session| apply::events(ws, session, events, texts)))
            });
            Ok(changed.await?.map_or(i64::MAX, |(_, reached)| reached))
        }
    }
}

enum Appended {
    UpTo(i64),
    /// Nothing was written: the events change more than the end of the transcript.
    ChangesMore,
}

async fn append_alone(
    cx: &Context,
    task: &TaskId,
    session: &SessionId,
    events: &[AgentEvent],
    texts: &Texts,
) -> Result<Appended> {
    let _turn = cx.writers.turn(task).await;
    let begun = cx.env.clock.now();
    let mut tries = 0;
    loop {
        tries += 1;
        let Some(before) = transcript_end::load(&cx.store, task, session).await? else {
            return Ok(Appended::UpTo(i64::MAX));
        };
        let Some((ws, reached)) = decide(&cx.env, &before, events, texts) else {
            return Ok(Appended::ChangesMore);
        };
        if reached == before.session.event_offset {
            return Ok(Appended::UpTo(reached));
        }
        match cx.store.commit(ws).await {
            Ok(_) => {
                cx.hub.observer().updated(view::organization::NAME, cx.env.clock.now().since(begun));
                return Ok(Appended::UpTo(reached));
            }
            Err(CommitError::GuardFailed { .. } | CommitError::Conflict { .. }) if tries < MAX_CHANGES => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// What to write and the offset that it reaches; none when the events change more than the end of the transcript.
fn decide(
    env: &Env,
    before: &TranscriptEnd,
    events: &[AgentEvent],
    texts: &Texts,
) -> Option<(WriteSet, i64)> {
    let (mut ws, mut session) = (WriteSet::new(), before.session.clone());
    let reached = apply::events(&mut ws, &mut session, events, texts);
    if !differs_at_its_end_alone(&before.session, &session) {
        return None;
    }
    session.follows = session.to_follow(before.agent.as_ref());
    transcript_end::write(&mut ws, env, before, &session);
    Some((ws, reached))
}

fn differs_at_its_end_alone(before: &Session, after: &Session) -> bool {
    let mut expected = before.clone();
    expected.event_offset = after.event_offset;
    expected.spoken_for.clone_from(&after.spoken_for);
    expected.spoken_here = after.spoken_here;
    expected.view.last_offset = after.view.last_offset;
    expected == *after
}
