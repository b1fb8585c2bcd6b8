//! Turns that end without an answer of the agent, and what to do when an agent or a runtime died.

use std::sync::Arc;

use foundry_core::{Error, MessageId, SandboxId, SessionId, Timestamp};
use foundry_proto::common::v1::{
    Condition, NoticeKind, TranscriptPart, TurnEnd, TurnOutcome, transcript_part::Body,
};
use foundry_store::{Value, WriteSet};

use super::drain_log;
use super::record::{finish_turn, next_attempt};
use crate::domain::fold::notice;
use crate::domain::{
    SESSION_STAGES, SandboxState, Session, SessionState, Turn, TurnState, reached_condition,
};
use crate::flow;
use crate::shared::Shared;
use crate::store::{
    Set, cleared, condition_value, elicitations, events, permissions, sandboxes, sessions, stages, turns,
};

fn part(message: &str, body: Body) -> TranscriptPart {
    TranscriptPart { message_id: message.to_owned(), body: Some(body), ..TranscriptPart::default() }
}

/// Ends a turn that the agent will not answer any more; the session is ready again.
///
/// # Errors
/// When the database fails.
pub async fn end_turn(
    shared: &Shared,
    session_id: &SessionId,
    message_id: &MessageId,
    end: &TurnEnd,
) -> Result<(), Error> {
    let decide = || async {
        let mut ws = WriteSet::new();
        let session = sessions::find(&shared.store, session_id).await?;
        let turn = turns::find(&shared.store, session_id, message_id).await?;
        let (Some(session), Some(turn)) = (session, turn.filter(|t| t.state != TurnState::Ended)) else {
            return Ok((ws, ()));
        };
        let now = shared.env.clock.now();
        let mut set = append_to_transcript(&mut ws, &session, Some((&turn, end)), Vec::new(), now);
        if session.state == SessionState::Running {
            set.push(("state", SessionState::Ready.as_str().into()));
            set.push(("condition", condition_value(&cleared(now))));
        }
        sessions::update(&mut ws, &session, set);
        flow::work::enqueue_for(&mut ws, shared, &session, None)?;
        Ok((ws, ()))
    };
    shared.store.retry_on_conflict(decide).await?;
    Ok(())
}

/// Appends notices and the end of a turn to the transcript, and returns what to set in the session's row.
pub fn append_to_transcript(
    ws: &mut WriteSet,
    session: &Session,
    turn: Option<(&Turn, &TurnEnd)>,
    notices: Vec<Body>,
    now: Timestamp,
) -> Set {
    let mut parts: Vec<TranscriptPart> = notices.into_iter().map(|n| part(&session.message_id, n)).collect();
    let mut set = Set::new();
    if let Some((turn, end)) = turn {
        finish_turn(ws, turn, end.outcome, now);
        permissions::void(ws, &session.session_id);
        elicitations::void(ws, &session.session_id);
        parts.push(part(turn.message_id.as_str(), Body::TurnEnd(end.clone())));
        set.push(("pending_permission", Value::Null));
        set.push(("pending_elicitation", Value::Null));
    }
    let revs = sessions::revs(ws, &session.organization_id, &session.session_id);
    set.extend(events::append(ws, session, revs.session, now, parts).columns());
    set
}

/// The end of a turn whose agent died.
fn interrupted(turn: &Turn, reason: &str, why: &str) -> TurnEnd {
    let cancelled = turn.cancel_requested;
    let outcome = if cancelled { TurnOutcome::Cancelled } else { TurnOutcome::Interrupted };
    TurnEnd {
        outcome: outcome.into(),
        stop_reason: if cancelled { "cancelled".to_owned() } else { String::new() },
        reason: reason.to_owned(),
        message: why.to_owned(),
        next_attempt_time: None,
    }
}

/// Puts a session whose agent process is gone back to the start of its flow.
async fn restart_session(
    shared: &Shared,
    ws: &mut WriteSet,
    session: &Session,
    reason: &str,
    why: &str,
) -> Result<(), Error> {
    let now = shared.env.clock.now();
    let turn = turns::find_named(&shared.store, &session.session_id, &session.message_id).await?;
    let turn = turn.filter(|t| t.state != TurnState::Ended);
    let end = turn.as_ref().map(|t| match session.model_condition.as_ref().filter(|c| !c.retryable) {
        // The process was ended because the agent did not obey; the reason for that is what counts.
        Some(refused) if !t.cancel_requested => TurnEnd {
            outcome: TurnOutcome::Error.into(),
            reason: refused.reason.clone(),
            message: refused.message.clone(),
            next_attempt_time: next_attempt(refused),
            ..TurnEnd::default()
        },
        _ => interrupted(t, reason, why),
    });
    let notices = vec![notice(NoticeKind::AgentExited, why)];
    let mut set = append_to_transcript(ws, session, turn.as_ref().zip(end.as_ref()), notices, now);
    let state = if turn.is_some() { SessionState::Interrupted } else { SessionState::Pending };
    let flow_id = shared.flow_id();
    let condition = Condition {
        reason: reason.to_owned(),
        message: format!("{why}; the agent is being restarted"),
        waiting_on: format!("sandbox/{}", session.sandbox_id),
        since_time: Some(now.to_proto()),
        next_action: "none needed".to_owned(),
        ..Condition::default()
    };
    set.extend([
        ("state", state.as_str().into()),
        ("condition", condition_value(&condition)),
        ("generation", (session.generation + 1).into()),
        ("flow_id", (&flow_id).into()),
    ]);
    stages::reset(ws, session.session_id.as_str(), &SESSION_STAGES);
    sessions::update(ws, session, set);
    flow::session::enqueue_flow(ws, session, flow_id, "");
    if turn.is_some() {
        flow::work::enqueue_for(ws, shared, session, None)?;
    }
    Ok(())
}

/// Why an agent's process ended. A limit of its sandbox, when that has just made processes end.
async fn why_exited(shared: &Shared, session: &Session) -> Result<(&'static str, String), Error> {
    let sandbox = sandboxes::find(&shared.store, &session.sandbox_id).await?;
    let reached = sandbox.and_then(|s| s.reached.into_iter().find(|r| r.ended));
    Ok(match reached {
        Some(r) => (
            r.kind.reason(),
            format!("the agent's process was terminated: {}", reached_condition(&r).message),
        ),
        None => ("AGENT_EXITED", "the agent's process exited".to_owned()),
    })
}

/// Restarts the agent of a session whose process ended while its runtime lives.
///
/// # Errors
/// When the database fails.
pub async fn on_agent_exited(shared: &Shared, session_id: &SessionId) -> Result<(), Error> {
    let decide = || async {
        let mut ws = WriteSet::new();
        let session = sessions::find(&shared.store, session_id).await?;
        let Some(session) = session.filter(|s| s.state.is_living() && s.fold.down) else {
            return Ok((ws, ()));
        };
        let (reason, why) = why_exited(shared, &session).await?;
        restart_session(shared, &mut ws, &session, reason, &why).await?;
        Ok((ws, ()))
    };
    shared.store.retry_on_conflict(decide).await?;
    Ok(())
}

/// Handles the death of a sandbox's runtime: records the rest of its agents' logs, ends their turns, and starts a new
/// runtime from `agent_starting` on.
///
/// # Errors
/// When the database fails.
pub async fn on_runtime_died(
    shared: &Arc<Shared>,
    id: &SandboxId,
    instance: i64,
    cause: &str,
) -> Result<(), Error> {
    for session in sessions::of_sandbox(&shared.store, id).await? {
        if session.state.is_living() {
            drain_log(shared, &session.session_id).await?;
        }
    }
    shared.clients.forget(id);
    let why = format!("the sandbox's runtime died: {cause}");
    let decide = || async {
        let mut ws = WriteSet::new();
        let sandbox = sandboxes::find(&shared.store, id).await?;
        let same =
            |s: &crate::domain::Sandbox| s.state == SandboxState::Ready && s.runtime_instance == instance;
        let Some(sandbox) = sandbox.filter(same) else { return Ok((ws, ())) };
        let now = shared.env.clock.now();
        let flow_id = shared.flow_id();
        let condition = Condition {
            reason: "SANDBOX_VANISHED".to_owned(),
            message: why.clone(),
            waiting_on: "agent_starting".to_owned(),
            since_time: Some(now.to_proto()),
            next_action: "none needed: a new runtime is being started".to_owned(),
            ..Condition::default()
        };
        let set = vec![
            ("state", SandboxState::Vanished.as_str().into()),
            ("condition", condition_value(&condition)),
            ("runtime_instance", (instance + 1).into()),
            ("facts", Value::Null),
            ("flow_id", (&flow_id).into()),
        ];
        sandboxes::update(&mut ws, &sandbox, set);
        stages::reset(&mut ws, id.as_str(), &["agent_starting", "agent_ready"]);
        flow::sandbox::enqueue_restart(&mut ws, &sandbox, flow_id);
        for session in sessions::of_sandbox(&shared.store, id).await? {
            if session.state.is_living() {
                restart_session(shared, &mut ws, &session, "SANDBOX_VANISHED", &why).await?;
            }
        }
        Ok((ws, ()))
    };
    shared.store.retry_on_conflict(decide).await?;
    tracing::warn!(sandbox = %id, instance, cause, "sandbox vanished; a new runtime is started");
    Ok(())
}
