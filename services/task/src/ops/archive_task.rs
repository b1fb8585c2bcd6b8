//! Archives a task and frees its sandbox.

use std::collections::HashMap;

use foundry_authn::Caller;
use foundry_core::{Error, Result, SessionId};
use foundry_proto::common::v1::Role;
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::task::v1::{ArchiveTaskRequest, ArchiveTaskResponse, SessionState, TaskState};

use super::command::Command;
use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::domain::session::{MessageState, Session};
use crate::domain::task::Lifecycle;
use crate::store::transcript;

/// Refused during a turn and while a message is about to start one, unless the task is damaged: then nothing could stop
/// the turn. Does nothing for an archived task.
///
/// # Errors
/// `FAILED_PRECONDITION` `TURN_RUNNING` or `TASK_KILLED`, `NOT_FOUND`.
pub async fn archive_task(
    cx: &Context,
    caller: &Caller,
    request: ArchiveTaskRequest,
) -> Result<ArchiveTaskResponse> {
    let found = cx.task(caller, &request.task_id, Role::Member).await?;
    let ended = ended_turns(cx, &found).await?;
    let command = Command {
        ends: true,
        ..Command::new(caller, found, "ArchiveTask", &request.request_id, "task.archive", &request.task_id)
    };
    let (answer, rev) = command
        .run(
            cx,
            &request,
            |decision| {
                if decision.aggregate.task.lifecycle.ended() == Lifecycle::Archived
                    && decision.aggregate.task.lifecycle != Lifecycle::Active
                {
                    return Ok(());
                }
                decision.aggregate.task.require_active()?;
                if decision.aggregate.is_damaged() {
                    // Its turn cannot be stopped, and what it shows of it may be wrong.
                    return decision.end(Lifecycle::Archiving);
                }
                if turn_runs(&decision.aggregate, &ended) {
                    return Err(Error::precondition(
                        "TURN_RUNNING",
                        &request.task_id,
                        "a turn is running in this task",
                    )
                    .next_action("stop the turn first, or kill the task"));
                }
                if turn_is_due(&decision.aggregate) {
                    return Err(Error::precondition(
                        "TURN_RUNNING",
                        &request.task_id,
                        "a message of this task is queued or being delivered",
                    )
                    .next_action("remove the message, stop the turn, or kill the task"));
                }
                decision.end(Lifecycle::Archiving)
            },
            |aggregate| ArchiveTaskResponse { task: Some(aggregate.task.view.clone()), rev: 0 },
        )
        .await?;
    Ok(ArchiveTaskResponse { rev, ..answer })
}

/// The message of a turn whose end is in the transcript, by session.
type Ended = HashMap<SessionId, String>;

/// The turns that have ended, as the transcript says, while their sessions are still shown as running: the two arrive over
/// different watches, and who has read the end need not wait for the other.
async fn ended_turns(cx: &Context, aggregate: &Aggregate) -> Result<Ended> {
    let mut ended = Ended::new();
    for session in aggregate.sessions.iter().filter(|s| runs(s)) {
        let last = transcript::page(&cx.store, &session.session_id, session.view.last_offset, 1).await?;
        let last = last.into_iter().next().and_then(|entry| entry.part);
        if let Some(part) = last.filter(|part| matches!(part.body, Some(Body::TurnEnd(_)))) {
            ended.insert(session.session_id.clone(), part.message_id);
        }
    }
    Ok(ended)
}

fn runs(session: &Session) -> bool {
    !session.closed && session.view.state() == SessionState::Running
}

fn turn_runs(aggregate: &Aggregate, ended: &Ended) -> bool {
    let has_ended = |s: &Session| ended.get(&s.session_id) == Some(&s.view.message_id);
    aggregate.sessions.iter().any(|session| runs(session) && !has_ended(session))
}

/// Whether a message is being handed over, or will be without anybody's action.
fn turn_is_due(aggregate: &Aggregate) -> bool {
    let stuck = aggregate.task.view.state() == TaskState::Error;
    aggregate.sessions.iter().filter(|s| !s.closed).any(|session| {
        let held = stuck || session.view.queue_held || session.view.state() == SessionState::Error;
        aggregate.queue(session.session_id.as_str()).any(|m| m.state == MessageState::Delivering || !held)
    })
}
