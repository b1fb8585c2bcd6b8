//! Applies what other services report to a task.

use std::collections::HashMap;

use foundry_core::{Env, Result, Timestamp, counted};
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{Notice, NoticeKind, TranscriptPart, TurnOutcome, UserMessage};
use foundry_proto::provisioner::v1::{AgentEvent, AgentSession, AgentSessionState, Sandbox, SandboxState};
use foundry_store::{Scope, WriteSet};

use crate::domain::derive::{Aggregate, Replica};
use crate::domain::session::Session;
use crate::domain::task::Lifecycle;
use crate::domain::validate::prefix;
use crate::flow::provisioner_call::{self, ProvisionerCall};
use crate::store::messages::Said;
use crate::store::transcript;

/// Bytes of a text in one transcript entry.
const PART: usize = 4 * 1024;

/// Applies the current state of a sandbox. One that appears for a task that has ended is destroyed.
///
/// # Errors
/// When a command cannot be written.
pub fn sandbox(
    ws: &mut WriteSet,
    env: &Env,
    aggregate: &mut Aggregate,
    sandbox: &Sandbox,
    rev: i64,
) -> Result<()> {
    if sandbox.task_id != aggregate.task.task_id.as_str() {
        return Ok(());
    }
    let newer = aggregate.sandbox.as_ref().is_none_or(|replica| {
        if replica.entity.sandbox_id == sandbox.sandbox_id {
            rev > replica.rev
        } else {
            created(sandbox) >= created(&replica.entity)
        }
    });
    if newer {
        aggregate.sandbox = Some(Replica { rev, entity: sandbox.clone() });
    }
    let leaving = matches!(sandbox.state(), SandboxState::Destroying | SandboxState::Destroyed);
    if aggregate.task.lifecycle != Lifecycle::Active
        && !leaving
        && aggregate.task.destroy_sent != sandbox.sandbox_id
    {
        aggregate.task.destroy_sent.clone_from(&sandbox.sandbox_id);
        let call = ProvisionerCall::DestroySandbox { sandbox_id: sandbox.sandbox_id.clone() };
        let (organization, subject) =
            (aggregate.task.organization_id.clone(), aggregate.task.task_id.to_string());
        provisioner_call::send(ws, env, &organization, &subject, "", &call)?;
    }
    Ok(())
}

fn created(sandbox: &Sandbox) -> i64 {
    sandbox.create_time.as_ref().map_or(0, |t| Timestamp::from_proto(t).as_micros())
}

/// Marks a sandbox as destroyed that the provisioner no longer lists.
pub fn sandbox_gone(aggregate: &mut Aggregate, sandbox_id: &str) {
    if let Some(replica) = aggregate.sandbox.as_mut().filter(|t| t.entity.sandbox_id == sandbox_id) {
        replica.entity.set_state(SandboxState::Destroyed);
    }
}

/// Applies the current state of a session's agent side. For a closed session, the agent side is closed too.
///
/// # Errors
/// When a command cannot be written.
pub fn agent_session(
    ws: &mut WriteSet,
    env: &Env,
    aggregate: &mut Aggregate,
    agent: &AgentSession,
    rev: i64,
) -> Result<()> {
    let known = aggregate.agents.get(&agent.session_id).is_some_and(|replica| replica.rev >= rev);
    let Some(session) = aggregate.session_mut(&agent.session_id) else { return Ok(()) };
    to_session(ws, env, session, agent, known)?;
    if !known {
        aggregate.agents.insert(agent.session_id.clone(), Replica { rev, entity: agent.clone() });
    }
    Ok(())
}

/// Applies the current state of the agent side to the session itself. `known`: this or a newer state was applied
/// before.
///
/// # Errors
/// When a command cannot be written.
pub fn to_session(
    ws: &mut WriteSet,
    env: &Env,
    session: &mut Session,
    agent: &AgentSession,
    known: bool,
) -> Result<()> {
    if agent.state() == AgentSessionState::Interrupted && !known {
        session.hold_for(&agent.message_id);
    }
    if session.closed && !session.close_sent && agent.state() != AgentSessionState::Closed {
        session.close_sent = true;
        let call = ProvisionerCall::CloseSession { session_id: agent.session_id.clone() };
        provisioner_call::send(ws, env, &session.organization_id, &agent.session_id, "", &call)?;
    }
    Ok(())
}

/// The texts of people's messages, by message id.
pub type Texts = HashMap<String, Said>;

/// Events of an agent in their order, as entries of the transcript. Events that it holds already
/// are left out; after a hole nothing more is taken. Returns the offset up to which all is taken.
pub fn events(ws: &mut WriteSet, session: &mut Session, events: &[AgentEvent], texts: &Texts) -> i64 {
    let feed = ws.scope(Scope::session(&session.session_id));
    for event in events {
        if event.offset <= session.event_offset {
            continue;
        }
        if event.offset != session.event_offset + 1 {
            break;
        }
        session.event_offset = event.offset;
        let Some(part) = &event.part else { continue };
        let speaks = matches!(part.body, Some(Body::UserMessage(_)));
        if !part.message_id.is_empty() && part.message_id != session.spoken_for {
            session.spoken_for.clone_from(&part.message_id);
            session.spoken_here = !speaks;
            if let Some(said) = texts.get(&part.message_id).filter(|_| !speaks) {
                for entry in spoken(&part.message_id, said, part) {
                    session.view.last_offset += 1;
                    transcript::insert(ws, feed, &session.session_id, session.view.last_offset, &entry);
                }
            }
        }
        if speaks && session.spoken_here && part.message_id == session.spoken_for {
            // The transcript already has the text of this turn.
            continue;
        }
        if let Some(Body::TurnEnd(end)) = &part.body {
            match end.outcome() {
                // The cause ends at a known time: until then the provisioner keeps back what is handed over.
                TurnOutcome::Error if end.next_attempt_time.is_some() => {}
                TurnOutcome::Error | TurnOutcome::Refused => session.view.queue_held = true,
                // The session's own state may arrive first, or change again before it is seen.
                TurnOutcome::Interrupted => session.hold_for(&part.message_id),
                // The sandbox was destroyed during the turn; nobody asked to stop this turn.
                TurnOutcome::Cancelled if end.reason == "SANDBOX_DESTROYED" => {
                    session.hold_for(&part.message_id);
                }
                // A stop holds the queue when it is requested.
                _ => {}
            }
        }
        session.view.last_offset += 1;
        transcript::insert(ws, feed, &session.session_id, session.view.last_offset, part);
    }
    session.event_offset
}

/// Leaves out events that do not exist any more, with a notice in their place, unless the transcript holds them.
pub fn deleted(ws: &mut WriteSet, now: Timestamp, session: &mut Session, upto: i64) {
    if upto <= session.event_offset {
        return;
    }
    let lost = counted(upto - session.event_offset, "event");
    session.event_offset = upto;
    session.view.last_offset += 1;
    let message = format!(
        "agent events are missing here: {lost} deleted by the provisioner after this older copy of the database was made"
    );
    let part = TranscriptPart {
        create_time: Some(now.to_proto()),
        body: Some(Body::Notice(Notice { kind: NoticeKind::EventsLost.into(), message })),
        ..TranscriptPart::default()
    };
    let feed = ws.scope(Scope::session(&session.session_id));
    transcript::insert(ws, feed, &session.session_id, session.view.last_offset, &part);
}

/// A person's message as transcript entries of at most [`PART`] bytes each.
fn spoken(message_id: &str, said: &Said, first: &TranscriptPart) -> Vec<TranscriptPart> {
    let mut parts = Vec::new();
    let mut rest = said.text.as_str();
    // A message with files but no text still needs one entry: the first entry carries the files.
    while !rest.is_empty() || (parts.is_empty() && !said.attachments.is_empty()) {
        let piece = prefix(rest, PART);
        rest = &rest[piece.len()..];
        let attachments = if parts.is_empty() { said.attachments.clone() } else { Vec::new() };
        let user_id = said.user.clone();
        parts.push(TranscriptPart {
            message_id: message_id.to_owned(),
            part_number: i32::try_from(parts.len()).unwrap_or(i32::MAX),
            block_id: message_id.to_owned(),
            runtime_instance: 0,
            create_time: first.create_time,
            body: Some(Body::UserMessage(UserMessage { text: piece.to_owned(), user_id, attachments })),
        });
    }
    parts
}
