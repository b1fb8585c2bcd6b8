//! The decline job: delivers the answers to an agent's questions that are declined without being shown. It is a job
//! apart from the answers of people, which a flood of questions would delay otherwise.
//!
//! A session has one running job at a time. It ends at the first answer that the agent does not take, so an agent
//! that asks and never reads holds one slot, and only briefly.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Error, FlowId, SessionId};
use foundry_flow::{Flow, NewFlow, Outcome, Stage, StageContext, enqueue, signal, stage, unfinished};
use foundry_store::WriteSet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::permission::Answer;
use super::{StageError, UNTIL_DONE};
use crate::domain::{Session, SessionState};
use crate::shared::{Shared, acp_of};
use crate::store::{sandboxes, sessions};

/// Delivers the answers to declined questions.
pub static DECLINE: Flow<Shared> = Flow::new(
    "question_decline",
    &[Stage::new("answer", Duration::from_secs(30), UNTIL_DONE, |shared, ctx| stage(decline(shared, ctx)))],
)
.concurrency(8);

/// Answers delivered in one go; then the jobs of other sessions get a slot.
const SHARE: usize = 200;
/// Most unfinished jobs of a session. An agent with more has not read its answers for long, and gets no further ones.
const MAX_WAITING: usize = 64;
/// An earlier job is checked again after this time, in case its signal was lost or it failed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Input {
    generation: i64,
    answers: Vec<Answer>,
}

/// State of the job: how many answers are delivered.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    given: usize,
}

/// Adds one job for these declined questions: the agent's ids of its requests, with their answers.
pub async fn enqueue_for(
    ws: &mut WriteSet,
    shared: &Shared,
    session: &Session,
    declined: Vec<(Value, Value)>,
) -> Result<(), Error> {
    if declined.is_empty() {
        return Ok(());
    }
    let waiting = unfinished(&shared.store, &DECLINE, session.session_id.as_str()).await?;
    if waiting.len() >= MAX_WAITING {
        let (session, questions) = (&session.session_id, declined.len());
        tracing::warn!(%session, questions, "an agent does not read its answers; its questions stay unanswered");
        return Ok(());
    }
    let answers = declined.into_iter().map(|(acp_id, result)| Answer::written(&acp_id, result));
    let input = Input { generation: session.generation, answers: answers.collect() };
    let flow_id = shared.flow_id();
    // Jobs that are written at the same instant run in the order of the log.
    let key = format!("{:020}/{flow_id}", session.cursor.offset);
    let flow = NewFlow::new(&DECLINE, flow_id, key, session.session_id.as_str())
        .organization(&session.organization_id)
        .input(&input)?;
    enqueue(ws, flow);
    Ok(())
}

/// Waits for the session's earlier jobs, then delivers the answers, a share at a time.
async fn decline(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let id: SessionId = ctx.subject_id().parse()?;
    let input: Input = ctx.input()?;
    let now = ctx.env().clock.now();
    let session = sessions::find(&shared.store, &id).await?;
    // A restarted agent has forgotten its questions. Those outside of a turn are answered too: an agent may wait for
    // the answer before it can be prompted.
    let open = [SessionState::Running, SessionState::Ready, SessionState::Creating];
    let session = session.filter(|s| s.generation == input.generation && open.contains(&s.state));
    let Some(session) = session else { return Ok(done(shared, ctx.flow_id())) };
    // Each waits for the one before it, so that the end of a job wakes only one.
    let waiting = unfinished(&shared.store, &DECLINE, id.as_str()).await?;
    if let Some(before) = waiting.iter().take_while(|flow| *flow != ctx.flow_id()).last() {
        let message = "waiting for earlier answers to the agent";
        return Ok(Outcome::wait(key(before), message).until(now.plus(LOOK_AGAIN)));
    }
    let sandbox = sandboxes::find(&shared.store, &session.sandbox_id).await?;
    let Some(sandbox) = sandbox else { return Ok(done(shared, ctx.flow_id())) };
    let (acp, client) = (acp_of(&session)?, shared.client(&sandbox)?);
    let given = ctx.state::<Memory>().map_or(0, |memory| memory.given);
    let left = input.answers.get(given..).unwrap_or_default();
    for answer in left.iter().take(SHARE) {
        match answer.deliver(&client, &acp, false).await {
            Ok(()) => {}
            // One that the agent cannot take does not affect the others.
            Err(e) if e.is_refused("invalid") || e.is_refused("too_large") => {
                tracing::info!(session = %id, error = %e, "an answer could not be sent to an agent");
            }
            Err(e) => return Err(e.into()),
        }
    }
    if left.len() <= SHARE {
        return Ok(done(shared, ctx.flow_id()));
    }
    let rest = Outcome::wait(format!("{}/rest", key(ctx.flow_id())), "yielding to other sessions").until(now);
    Ok(rest.with_state(&Memory { given: given + SHARE }))
}

/// Ends the job and wakes the next one.
fn done(shared: &Arc<Shared>, flow: &FlowId) -> Outcome {
    let mut ws = WriteSet::new();
    signal(&mut ws, &shared.env, &key(flow));
    Outcome::done().recording(ws)
}

fn key(flow: &FlowId) -> String {
    format!("declined/{flow}")
}

#[cfg(test)]
mod tests;
