//! The rules of a flow as pure functions: a row and what just happened give the next row. No
//! database, no time of its own, no code of a stage.

use std::time::Duration;

use foundry_core::Timestamp;
use foundry_store::WriteSet;

use crate::outcome::{Outcome, Undo};
use crate::row::Row;
use crate::spec::OnFailure;
use crate::stage::Bound;
use crate::status::{Status, Transition, Unwinding, Woken};

/// What the rules need from outside: one instant, one random fraction, and whether the worker stops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Timestamp,
    pub(crate) fraction: f64,
    pub(crate) draining: bool,
}

/// The next row and what commits with it.
pub(crate) struct Plan {
    pub(crate) row: Row,
    pub(crate) write: WriteSet,
}

/// Why an attempt is put back without an outcome of its own.
pub(crate) fn released(mut row: Row, at: Moment) -> Plan {
    row.status.attempt = row.status.attempt.saturating_sub(1);
    row.woken = Woken::Recovered;
    rest(&mut row, Status::Ready, Some(at.now), at.now, Transition::Released);
    Plan { row, write: WriteSet::default() }
}

/// What follows an attempt of a stage.
pub(crate) fn after_run(bound: &Bound, mut row: Row, outcome: Outcome, at: Moment) -> Plan {
    match outcome {
        Outcome::Done { write, state } => {
            let next = bound.flow.position(&row.status.stage).map(|i| i + 1);
            let next = next.and_then(|i| bound.flow.stages.get(i)).map(|s| s.name);
            keep_state(&mut row, state);
            advance(bound, &mut row, next, at);
            Plan { row, write }
        }
        Outcome::Goto { stage, write, state } => {
            keep_state(&mut row, state);
            if bound.flow.position(stage).is_some() {
                advance(bound, &mut row, Some(stage), at);
            } else {
                let message = format!(
                    "stage {} named the next stage {stage}, which is not in its table",
                    row.status.stage
                );
                fail(bound, &mut row, "NO_SUCH_STAGE", message, at);
            }
            Plan { row, write }
        }
        Outcome::Retry { reason, message, after } => {
            attempt_failed(bound, &mut row, reason, message, after, at);
            Plan { row, write: WriteSet::default() }
        }
        Outcome::Fail { reason, message, write } => {
            fail(bound, &mut row, &reason, message, at);
            Plan { row, write }
        }
        Outcome::Wait { key, deadline, message, write, state } => {
            keep_state(&mut row, state);
            if row.status.cancel_requested {
                start_unwind(bound, &mut row, Unwinding::ToCancelled, at);
            } else {
                wait(&mut row, key, deadline, message, at);
            }
            Plan { row, write }
        }
    }
}

/// What follows an attempt to undo a stage.
pub(crate) fn after_undo(bound: &Bound, mut row: Row, undo: Undo, at: Moment) -> Plan {
    let write = match undo {
        Undo::Done { write } => {
            undo_next(bound, &mut row, at);
            write
        }
        Undo::Retry { reason, message } => {
            if spent(bound, &row) {
                let note = format!("; undoing {} failed: {reason}: {message}", row.status.stage);
                row.cause_message.push_str(&note);
                undo_next(bound, &mut row, at);
            } else {
                back_off(bound, &mut row, reason, message, None, at);
            }
            WriteSet::default()
        }
    };
    Plan { row, write }
}

/// A cancel that reached the flow outside or in the middle of an attempt.
pub(crate) fn cancelled(bound: &Bound, mut row: Row, at: Moment) -> Plan {
    start_unwind(bound, &mut row, Unwinding::ToCancelled, at);
    Plan { row, write: WriteSet::default() }
}

fn keep_state(row: &mut Row, state: Option<serde_json::Value>) {
    if let Some(state) = state {
        row.status.state = state;
    }
}

fn advance(bound: &Bound, row: &mut Row, next: Option<&'static str>, at: Moment) {
    row.status.completed_stage = Some(row.status.stage.clone());
    row.status.reason.clear();
    row.status.message.clear();
    row.status.last_progress_time = at.now;
    match next {
        _ if row.status.cancel_requested => start_unwind(bound, row, Unwinding::ToCancelled, at),
        None => finish(row, Status::Done, at, Transition::Done),
        Some(stage) => {
            if bound.flow.position(stage) > bound.flow.position(&row.reached) {
                stage.clone_into(&mut row.reached);
            }
            enter(bound, row, stage, at, Transition::Advanced);
        }
    }
}

/// Puts the row at the first attempt of a stage: running at once, or left for another worker when
/// this one stops.
fn enter(bound: &Bound, row: &mut Row, stage: &str, at: Moment, transition: Transition) {
    stage.clone_into(&mut row.status.stage);
    row.status.stage_started_time = at.now;
    row.status.failures = 0;
    // What was heard last is of the stage before.
    row.status.last_progress.clear();
    row.woken = Woken::Start;
    if at.draining {
        row.status.attempt = 0;
        rest(row, Status::Ready, Some(at.now), at.now, transition);
    } else {
        row.status.attempt = 1;
        begin_attempt(bound, row, at.now);
        row.status.transition = Some(transition);
    }
}

/// Marks the row as running its current attempt from now on.
pub(crate) fn begin_attempt(bound: &Bound, row: &mut Row, now: Timestamp) {
    let timeout = bound.stage(&row.status.stage).map_or(Duration::ZERO, |(_, spec, _)| spec.timeout);
    row.status.status = Status::Running;
    row.status.status_time = now;
    row.status.deadline = Some(now.plus(timeout));
    row.status.wait_key = None;
    row.status.transition = Some(Transition::Started);
}

fn wait(row: &mut Row, key: String, deadline: Option<Timestamp>, message: String, at: Moment) {
    row.status.failures = 0;
    row.status.attempt = 0;
    rest(row, Status::Waiting, deadline, at.now, Transition::Waiting);
    row.status.deadline = deadline;
    row.status.wait_key = Some(key);
    row.status.reason = "WAITING".to_owned();
    row.status.message = message;
    row.status.last_progress_time = at.now;
}

fn spent(bound: &Bound, row: &Row) -> bool {
    bound.stage(&row.status.stage).is_none_or(|(_, spec, _)| row.status.failures + 1 >= spec.retry.budget)
}

fn attempt_failed(
    bound: &Bound,
    row: &mut Row,
    reason: String,
    message: String,
    after: Option<Duration>,
    at: Moment,
) {
    if row.status.cancel_requested {
        start_unwind(bound, row, Unwinding::ToCancelled, at);
    } else if spent(bound, row) {
        row.status.failures += 1;
        fail(bound, row, &reason, message, at);
    } else {
        back_off(bound, row, reason, message, after, at);
    }
}

fn back_off(
    bound: &Bound,
    row: &mut Row,
    reason: String,
    message: String,
    after: Option<Duration>,
    at: Moment,
) {
    row.status.failures += 1;
    let policy = bound.stage(&row.status.stage).map(|(_, spec, _)| spec.retry);
    let delay = policy.map_or(Duration::ZERO, |p| p.delay(row.status.failures, at.fraction));
    let due = at.now.plus(after.map_or(delay, |d| d.max(delay)));
    row.woken = Woken::Retry;
    rest(row, Status::Ready, Some(due), at.now, Transition::Retrying);
    row.status.reason = reason;
    row.status.message = message;
}

fn fail(bound: &Bound, row: &mut Row, reason: &str, message: String, at: Moment) {
    if row.status.cancel_requested {
        return start_unwind(bound, row, Unwinding::ToCancelled, at);
    }
    reason.clone_into(&mut row.status.reason);
    row.status.message = message;
    match bound.flow.on_failure {
        OnFailure::Keep => finish(row, Status::Failed, at, Transition::Failed),
        OnFailure::Unwind => start_unwind(bound, row, Unwinding::ToFailed, at),
    }
}

/// Begins to undo, from the furthest stage the flow ever entered: an attempt that was cut may have
/// left its effect behind.
fn start_unwind(bound: &Bound, row: &mut Row, unwinding: Unwinding, at: Moment) {
    let reached = bound.flow.position(&row.reached).unwrap_or(usize::MAX);
    if unwinding == Unwinding::ToFailed && bound.last_undoable(reached).is_none() {
        // Nothing to undo: the completed stages stay, so the flow can be retried.
        return finish(row, Status::Failed, at, Transition::Failed);
    }
    if unwinding == Unwinding::ToCancelled {
        let why = match row.status.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({reason}: {})", row.status.message),
        };
        row.status.message = format!("cancelled at stage {}{why}", row.status.stage);
        "CANCELLED".clone_into(&mut row.status.reason);
    }
    row.cause_stage.clone_from(&row.status.stage);
    row.cause_reason.clone_from(&row.status.reason);
    row.cause_message.clone_from(&row.status.message);
    row.status.unwinding = Some(unwinding);
    row.status.finished_time = None;
    undo_from(bound, row, Some(reached), at);
}

fn undo_next(bound: &Bound, row: &mut Row, at: Moment) {
    row.status.completed_stage = Some(row.status.stage.clone());
    row.status.last_progress_time = at.now;
    let below = bound.flow.position(&row.status.stage).and_then(|i| i.checked_sub(1));
    undo_from(bound, row, below, at);
}

fn undo_from(bound: &Bound, row: &mut Row, upto: Option<usize>, at: Moment) {
    row.status.reason.clone_from(&row.cause_reason);
    row.status.message.clone_from(&row.cause_message);
    match upto.and_then(|i| bound.last_undoable(i)) {
        Some(stage) => enter(bound, row, stage, at, Transition::Unwinding),
        None => {
            let ending = row.status.unwinding.map_or(Status::Failed, Unwinding::ending);
            row.status.stage.clone_from(&row.cause_stage);
            let transition =
                if ending == Status::Cancelled { Transition::Cancelled } else { Transition::Failed };
            finish(row, ending, at, transition);
        }
    }
}

fn finish(row: &mut Row, status: Status, at: Moment, transition: Transition) {
    rest(row, status, None, at.now, transition);
    row.status.finished_time = Some(at.now);
}

/// Puts the row down: nobody holds it until it is due.
fn rest(row: &mut Row, status: Status, due: Option<Timestamp>, now: Timestamp, transition: Transition) {
    row.status.status = status;
    row.status.status_time = now;
    row.status.due_time = due;
    row.status.deadline = None;
    row.status.wait_key = None;
    row.status.transition = Some(transition);
}
