//! The decline job: answers in nobody's place what an agent asks and nobody can be shown. Apart from the answers of people,
//! which a flood of an agent's questions would keep waiting otherwise.
//!
//! One job of a session runs at a time, and one that its agent does not read for ends at the first answer that is not
//! taken: so an agent that asks and does not read takes one place, and little of it.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Error, FlowId, SessionId};
use foundry_flow::{Flow, NewFlow, Outcome, Stage, StageContext, enqueue, signal, stage, unfinished};
use foundry_store::WriteSet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::permission::Answer;
use super::{Halt, UNTIL_DONE};
use crate::domain::{Session, SessionState};
use crate::shared::{Shared, acp_of};
use crate::store::{sandboxes, sessions};

/// Delivers what is declined.
pub static DECLINE: Flow<Shared> = Flow::new(
    "question_decline",
    &[Stage::new("answer", Duration::from_secs(30), UNTIL_DONE, |shared, ctx| stage(decline(shared, ctx)))],
)
.concurrency(8);

/// Answers that are given at once; then the jobs of other sessions have their turn.
const SHARE: usize = 200;
/// Jobs of a session that may wait. An agent that has more has read none of the answers for long, and gets no further ones.
const MAX_WAITING: usize = 64;
/// An earlier job is looked for again after this time, should its signal be lost or should it have failed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Input {
    generation: i64,
    answers: Vec<Answer>,
}

/// How far the job is.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    given: usize,
}

/// Adds the job of what is declined, by the agent's ids of its requests. However many an agent makes necessary at once,
/// it is one job.
///
/// # Errors
/// When the database fails.
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
        tracing::warn!(%session, questions, "questions of an agent that does not read its answers get none");
        return Ok(());
    }
    let answers = declined.into_iter().map(|(acp_id, result)| Answer::written(&acp_id, result));
    let input = Input { generation: session.generation, answers: answers.collect() };
    let flow_id = shared.flow_id();
    // Of two that are written down at the same instant, the one that stands first in the log is the first.
    let key = format!("{:020}/{flow_id}", session.cursor.offset);
    let flow = NewFlow::new(&DECLINE, flow_id, key, session.session_id.as_str())
        .organization(&session.organization_id)
        .input(&input)?;
    enqueue(ws, flow);
    Ok(())
}

/// Waits for the session's earlier ones, then delivers the answers, a share at a time.
async fn decline(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, Halt> {
    let id: SessionId = ctx.subject_id().parse()?;
    let input: Input = ctx.input()?;
    let now = ctx.env().clock.now();
    let session = sessions::find(&shared.store, &id).await?;
    // An agent that was started again never asked. What is asked in no turn is answered too: an agent may wait for it
    // before it can be given one.
    let open = [SessionState::Running, SessionState::Ready, SessionState::Creating];
    let session = session.filter(|s| s.generation == input.generation && open.contains(&s.state));
    let Some(session) = session else { return Ok(done(shared, ctx.flow_id())) };
    // Each waits for the one before it, so that an end wakes one.
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
            // The others can be taken all the same.
            Err(e) if e.is_refused("invalid") || e.is_refused("too_large") => {
                tracing::info!(session = %id, error = %e, "an agent cannot be answered");
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

/// The one after it begins.
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
