//! The rules of a flow as pure functions: a row and an event give the next row. They use no database, read no clock,
//! and run no code of a stage.

use std::time::Duration;

use foundry_core::Timestamp;
use foundry_store::WriteSet;

use crate::binding::Binding;
use crate::outcome::Outcome;
use crate::row::Row;
use crate::status::{Status, Transition, Woken};

/// The external inputs of the rules: one instant, one random fraction, and whether the worker is stopping.
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

/// Why a flow is in its state: see [`FlowStatus`](crate::FlowStatus).
#[derive(Default)]
struct Why {
    class: &'static str,
    reason: String,
    message: String,
}

/// Puts an attempt back that has no outcome of its own.
pub(crate) fn released(mut row: Row, at: Moment) -> Plan {
    row.status.attempt = row.status.attempt.saturating_sub(1);
    row.woken = Woken::Recovered;
    rest(&mut row, Status::Ready, Some(at.now), at.now, Transition::Released);
    Plan { row, write: WriteSet::default() }
}

/// The transition after an attempt of a stage.
pub(crate) fn after_run(bound: &Binding, mut row: Row, outcome: Outcome, at: Moment) -> Plan {
    match outcome {
        Outcome::Done { write, state } => {
            let next = bound.position(&row.status.stage).map(|i| i + 1);
            let next = next.and_then(|i| bound.stages.get(i)).map(|s| s.name);
            keep_state(&mut row, state);
            advance(bound, &mut row, next, at);
            Plan { row, write }
        }
        Outcome::Goto { stage, write, state } => {
            keep_state(&mut row, state);
            if bound.position(stage).is_some() {
                advance(bound, &mut row, Some(stage), at);
            } else {
                let message = format!(
                    "stage {} named the next stage {stage}, which is not in its table",
                    row.status.stage
                );
                fail(&mut row, Why { class: "", reason: "NO_SUCH_STAGE".to_owned(), message }, at);
            }
            Plan { row, write }
        }
        Outcome::Retry { class, reason, message, after } => {
            attempt_failed(bound, &mut row, Why { class, reason, message }, after, at);
            Plan { row, write: WriteSet::default() }
        }
        Outcome::Fail { class, reason, message, write } => {
            fail(&mut row, Why { class, reason, message }, at);
            Plan { row, write }
        }
        Outcome::Wait { key, deadline, reason, message, write, state } => {
            keep_state(&mut row, state);
            if row.status.cancel_requested {
                cancel(&mut row, at);
            } else {
                wait(&mut row, key, deadline, at);
                explain(&mut row, Why { class: "", reason, message });
            }
            Plan { row, write }
        }
    }
}

/// The transition for a cancel, which reached the flow outside or in the middle of an attempt.
pub(crate) fn cancelled(mut row: Row, at: Moment) -> Plan {
    cancel(&mut row, at);
    Plan { row, write: WriteSet::default() }
}

fn keep_state(row: &mut Row, state: Option<serde_json::Value>) {
    if let Some(state) = state {
        row.status.state = state;
    }
}

fn advance(bound: &Binding, row: &mut Row, next: Option<&'static str>, at: Moment) {
    row.status.completed_stage = Some(row.status.stage.clone());
    explain(row, Why::default());
    row.status.last_progress_time = at.now;
    match next {
        _ if row.status.cancel_requested => cancel(row, at),
        None => finish(row, Status::Done, at, Transition::Done),
        Some(stage) => enter(bound, row, stage, at),
    }
}

/// Puts the row at the first attempt of a stage: running at once, or ready for another worker when this one is
/// stopping.
fn enter(bound: &Binding, row: &mut Row, stage: &str, at: Moment) {
    stage.clone_into(&mut row.status.stage);
    row.status.stage_started_time = at.now;
    row.status.failures = 0;
    // The last progress was of the stage before.
    row.status.last_progress.clear();
    row.woken = Woken::Start;
    if at.draining {
        row.status.attempt = 0;
        rest(row, Status::Ready, Some(at.now), at.now, Transition::Advanced);
    } else {
        row.status.attempt = 1;
        begin_attempt(bound, row, at.now);
        row.status.transition = Some(Transition::Advanced);
    }
}

/// Marks the row as running its current attempt from now on.
pub(crate) fn begin_attempt(bound: &Binding, row: &mut Row, now: Timestamp) {
    let timeout = bound.stage(&row.status.stage).map_or(Duration::ZERO, |s| s.timeout);
    row.status.status = Status::Running;
    row.status.status_time = now;
    row.status.deadline = Some(now.plus(timeout));
    row.status.wait_key = None;
    row.status.transition = Some(Transition::Started);
}

fn wait(row: &mut Row, key: String, deadline: Option<Timestamp>, at: Moment) {
    row.status.failures = 0;
    row.status.attempt = 0;
    rest(row, Status::Waiting, deadline, at.now, Transition::Waiting);
    row.status.deadline = deadline;
    row.status.wait_key = Some(key);
    row.status.last_progress_time = at.now;
}

fn spent(bound: &Binding, row: &Row) -> bool {
    bound.stage(&row.status.stage).is_none_or(|s| row.status.failures + 1 >= s.retry.budget)
}

fn attempt_failed(bound: &Binding, row: &mut Row, why: Why, after: Option<Duration>, at: Moment) {
    if row.status.cancel_requested {
        cancel(row, at);
    } else if spent(bound, row) {
        row.status.failures += 1;
        fail(row, why, at);
    } else {
        back_off(bound, row, why, after, at);
    }
}

fn back_off(bound: &Binding, row: &mut Row, why: Why, after: Option<Duration>, at: Moment) {
    row.status.failures += 1;
    let policy = bound.stage(&row.status.stage).map(|s| s.retry);
    let delay = policy.map_or(Duration::ZERO, |p| p.delay(row.status.failures, at.fraction));
    let due = at.now.plus(after.map_or(delay, |d| d.max(delay)));
    row.woken = Woken::Retry;
    rest(row, Status::Ready, Some(due), at.now, Transition::Retrying);
    explain(row, why);
}

fn fail(row: &mut Row, why: Why, at: Moment) {
    if row.status.cancel_requested {
        return cancel(row, at);
    }
    explain(row, why);
    finish(row, Status::Failed, at, Transition::Failed);
}

fn cancel(row: &mut Row, at: Moment) {
    let why = match row.status.reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason}: {})", row.status.text()),
    };
    let message = format!("cancelled at stage {}{why}", row.status.stage);
    explain(row, Why { class: "", reason: "CANCELLED".to_owned(), message });
    finish(row, Status::Cancelled, at, Transition::Cancelled);
}

/// Sets the reason for the flow's state.
fn explain(row: &mut Row, why: Why) {
    why.class.clone_into(&mut row.status.class);
    row.status.reason = why.reason;
    row.status.message = why.message;
}

fn finish(row: &mut Row, status: Status, at: Moment, transition: Transition) {
    rest(row, status, None, at.now, transition);
    row.status.finished_time = Some(at.now);
}

/// Puts the row down: no worker holds it until it is due.
fn rest(row: &mut Row, status: Status, due: Option<Timestamp>, now: Timestamp, transition: Transition) {
    row.status.status = status;
    row.status.status_time = now;
    row.status.due_time = due;
    row.status.deadline = None;
    row.status.wait_key = None;
    row.status.transition = Some(transition);
}
