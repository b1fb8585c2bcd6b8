//! Gives back the space of ended tasks: once the transcript of a session holds everything, the provisioner need not keep
//! its events; review comments are removed, and the transcripts of a killed task are deleted after their retention.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Result, TaskId};
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{Notice, NoticeKind, TranscriptPart};
use foundry_proto::provisioner::v1::AgentSessionState;
use foundry_server::config::duration;
use foundry_store::{CommitError, Scope, WriteSet};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::flow::change_damaged_too;
use crate::flow::provisioner_call::{self, ProvisionerCall};
use crate::store::aggregate::ENDED_TOPIC;
use crate::store::{reviews, tasks, transcript};

/// Pause between two rounds, unless a task ends: nobody waits for the space.
const PAUSE: Duration = Duration::from_secs(300);
/// Most sessions in one query.
const AT_A_TIME: u32 = 100;

pub(super) async fn run(cx: Arc<Context>, stop: CancellationToken) {
    let mut woken = cx.store.subscribe_topic(ENDED_TOPIC);
    loop {
        woken.mark_seen();
        let round = async {
            for done in [forget_comments(&cx).await, release(&cx).await, delete_transcripts(&cx).await] {
                if let Err(e) = done {
                    tracing::warn!(error = ?e, "ended tasks could not be read; retrying");
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = round => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = woken.changed() => {}
            () = cx.env.clock.sleep(PAUSE) => {}
        }
    }
}

/// Removes review comments on ended tasks, and the summaries of reviews: nothing can be sent to them any more.
///
/// # Errors
/// When the tasks cannot be read.
pub(crate) async fn forget_comments(cx: &Context) -> Result<()> {
    for task in reviews::ended_with_comments(&cx.store, AT_A_TIME).await? {
        // One task that cannot be written must not block the others.
        if let Err(e) = reviews::remove_all(&cx.store, &task, false).await {
            tracing::warn!(%task, error = ?e, "review comments of an ended task could not be removed; retrying");
        }
    }
    Ok(())
}

/// Releases the events of all ended tasks as far as their transcripts are complete.
///
/// # Errors
/// When the tasks cannot be read.
pub(crate) async fn release(cx: &Context) -> Result<()> {
    let mut after = String::new();
    loop {
        let ended = tasks::unreleased(&cx.store, &after, AT_A_TIME).await?;
        let Some(last) = ended.last() else { return Ok(()) };
        after = last.to_string();
        for task in &ended {
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
    if aggregate.sessions.iter().all(|session| session.released) {
        tasks::events_released(ws, &aggregate.task.task_id);
    }
    Ok(())
}

/// Deletes the transcripts of the tasks that were killed long enough ago.
///
/// # Errors
/// When the tasks cannot be read.
pub(crate) async fn delete_transcripts(cx: &Context) -> Result<()> {
    if cx.transcript_retention.is_zero() {
        return Ok(());
    }
    let before = cx.env.clock.now().minus(cx.transcript_retention);
    loop {
        let due = tasks::with_old_transcripts(&cx.store, before, AT_A_TIME).await?;
        let mut deleted = 0;
        for task in &due {
            match delete_transcript(cx, task).await {
                Ok(()) => deleted += 1,
                Err(e) => tracing::warn!(%task, error = ?e, "a transcript could not be deleted; retrying"),
            }
        }
        // Without progress the rest is left to the next round.
        if due.len() < AT_A_TIME as usize || deleted == 0 {
            return Ok(());
        }
    }
}

/// First adds the notice that stays, then deletes what is before it, and notes the end last: a crash at any point only
/// repeats the deletion.
async fn delete_transcript(cx: &Context, task: &TaskId) -> Result<()> {
    let decide = |aggregate: &mut Aggregate, ws: &mut WriteSet| {
        announce(ws, aggregate, cx);
        Ok(())
    };
    let Some((aggregate, ())) = change_damaged_too(cx, task, decide, |_| {}).await? else { return Ok(()) };
    for session in &aggregate.sessions {
        transcript::delete_before(&cx.store, &session.session_id, session.view.last_offset).await?;
    }
    reviews::remove_all(&cx.store, task, true).await?;
    let mut ws = WriteSet::new();
    tasks::transcripts_deleted(&mut ws, task);
    match cx.store.commit(ws).await {
        // Another replica has noted it.
        Ok(_) | Err(CommitError::GuardFailed { .. } | CommitError::Conflict { .. }) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Adds an entry to each transcript that says that it was deleted; once.
fn announce(ws: &mut WriteSet, aggregate: &mut Aggregate, cx: &Context) {
    if aggregate.task.transcript_deleted {
        return;
    }
    aggregate.task.transcript_deleted = true;
    let retention = duration::format(cx.transcript_retention);
    let message = format!("the transcript was deleted: the task was killed more than {retention} ago");
    let part = TranscriptPart {
        create_time: Some(cx.env.clock.now().to_proto()),
        body: Some(Body::Notice(Notice { kind: NoticeKind::EventsLost.into(), message })),
        ..TranscriptPart::default()
    };
    for session in aggregate.sessions.iter_mut().filter(|session| session.view.last_offset > 0) {
        session.view.last_offset += 1;
        let feed = ws.scope(Scope::session(&session.session_id));
        transcript::insert(ws, feed, &session.session_id, session.view.last_offset, &part);
    }
}
