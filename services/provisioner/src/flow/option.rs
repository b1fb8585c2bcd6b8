//! The option flow: applies a choice in the agent, once the agent is there, also while a turn runs.
//!
//! A restarted agent gets the choices when its session is opened. A choice that takes effect that way, or that
//! another one has replaced, ends the flow.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Error, FlowId, SessionId, Timestamp};
use foundry_flow::{Flow, NewFlow, Outcome, Stage, StageContext, enqueue, stage};
use foundry_runtime_client::RequestId;
use foundry_store::WriteSet;
use serde::{Deserialize, Serialize};

use super::{RETRY_LONG, StageError};
use crate::domain::offer::{ChoiceState, Chosen};
use crate::domain::{Offer, Session, SessionState};
use crate::runtime::options_key;
use crate::shared::{Shared, acp_of};
use crate::store::{sandboxes, sessions};

/// Applies a choice.
pub static OPTION: Flow<Shared> = Flow::new(
    "agent_option",
    &[
        Stage::new("deliver", Duration::from_secs(30), RETRY_LONG, |shared, ctx| stage(deliver(shared, ctx))),
        Stage::new("answered", Duration::from_secs(10), RETRY_LONG, |shared, ctx| {
            stage(answered(shared, ctx))
        }),
    ],
)
.concurrency(64);

/// The agent is checked again after this time, in case its signal was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Pause before a request that could not be sent is sent again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long an agent may take to answer, and how long to try to send the request to a running one.
const ANSWERS: Duration = Duration::from_secs(30);

#[derive(Serialize, Deserialize)]
struct Input {
    option: String,
}

/// Handed from one stage to the next.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    /// The agent process that the request is for; a new process gets a request of its own.
    generation: i64,
    /// When the choice is given up.
    until: Timestamp,
}

/// Adds the flow that applies a choice.
///
/// # Errors
/// Never: an id can be written as JSON.
pub fn enqueue_for(
    ws: &mut WriteSet,
    session: &Session,
    option: &str,
    flow_id: FlowId,
    traceparent: &str,
) -> Result<(), Error> {
    let key = flow_id.to_string();
    let flow = NewFlow::new(&OPTION, flow_id, key, session.session_id.as_str())
        .organization(&session.organization_id)
        .traced(traceparent)
        .input(&Input { option: option.to_owned() })?;
    enqueue(ws, flow);
    Ok(())
}

/// The session and the choice, as long as the choice is pending and belongs to this flow.
async fn wanted(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Option<(Session, Chosen)>, Error> {
    let id: SessionId = ctx.subject_id().parse()?;
    let option = ctx.input::<Input>()?.option;
    let Some(session) = sessions::find(&shared.store, &id).await? else { return Ok(None) };
    let chosen = session.offer.chosen.get(&option).cloned();
    Ok(chosen.filter(|c| is_open(c, ctx)).map(|chosen| (session, chosen)))
}

/// Waits for the agent, then sends it the request that sets the option.
async fn deliver(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let Some((session, _)) = wanted(shared, ctx).await? else { return Ok(Outcome::done()) };
    let now = ctx.env().clock.now();
    match session.state {
        SessionState::Ready | SessionState::Running => {}
        SessionState::Closed => return Ok(Outcome::done()),
        // The agent's next start applies the choice.
        _ => return Ok(waits(&session, "waiting for the agent", now.plus(LOOK_AGAIN))),
    }
    let option = ctx.input::<Input>()?.option;
    let Some(request) = session.offer.request(&option) else {
        refuse(shared, ctx, "OPTION_UNKNOWN", "the agent no longer offers it").await?;
        return Ok(Outcome::done());
    };
    let sandbox = sandboxes::find(&shared.store, &session.sandbox_id).await?;
    let Some(sandbox) = sandbox.filter(|s| s.facts.is_some()) else {
        return Ok(waits(&session, "waiting for the sandbox", now.plus(LOOK_AGAIN)));
    };
    let generation = session.generation;
    let memory = ctx.state::<Memory>().ok().filter(|m| m.generation == generation);
    let memory = memory.unwrap_or(Memory { generation, until: now.plus(ANSWERS) });
    let id = RequestId(format!("{}/{generation}", ctx.flow_id()));
    let params = request.params(&session.acp_session);
    let client = shared.client(&sandbox)?;
    match client.request(&acp_of(&session)?, &id, request.method(), params).await {
        Ok(_) => {
            let memory = Memory { generation, until: now.plus(ANSWERS) };
            Ok(Outcome::goto("answered").with_state(&memory))
        }
        Err(e) if now >= memory.until => {
            let reason = "OPTION_UNANSWERED";
            refuse(shared, ctx, reason, &format!("the value could not be sent to the agent: {e}")).await?;
            Ok(Outcome::done())
        }
        Err(e) => {
            tracing::info!(session = %session.session_id, option, error = %e, "sending a choice to the agent again");
            Ok(waits(&session, "the value has not been sent to the agent yet", now.plus(AGAIN))
                .with_state(&memory))
        }
    }
}

/// Waits for the agent's answer, which the pump reads from the log; gives up after [`ANSWERS`].
async fn answered(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let Some((session, _)) = wanted(shared, ctx).await? else { return Ok(Outcome::done()) };
    let memory: Memory = ctx.state()?;
    if session.generation != memory.generation {
        return Ok(Outcome::goto("deliver"));
    }
    if ctx.env().clock.now() < memory.until {
        return Ok(waits(&session, "waiting for the agent's answer", memory.until));
    }
    let text = format!("the agent did not respond within {} s", ANSWERS.as_secs());
    let reason = "OPTION_UNANSWERED";
    refuse(shared, ctx, reason, &text).await?;
    Ok(Outcome::done())
}

async fn refuse(shared: &Arc<Shared>, ctx: &StageContext, reason: &str, message: &str) -> Result<(), Error> {
    let (option, now) = (ctx.input::<Input>()?.option, ctx.env().clock.now());
    change(shared, ctx, |offer| offer.refuse(&option, reason, message, now)).await
}

/// Changes the offer as long as the choice is pending and belongs to this flow.
async fn change(shared: &Arc<Shared>, ctx: &StageContext, change: impl Fn(&mut Offer)) -> Result<(), Error> {
    let decide = || async {
        let mut ws = WriteSet::new();
        let Some((session, _)) = wanted(shared, ctx).await? else { return Ok((ws, ())) };
        let mut offer = session.offer.clone();
        change(&mut offer);
        sessions::update(&mut ws, &session, vec![("offer", sessions::json(&offer)?)]);
        Ok((ws, ()))
    };
    shared.store.retry_on_conflict(decide).await?;
    Ok(())
}

fn is_open(chosen: &Chosen, ctx: &StageContext) -> bool {
    chosen.flow_id == ctx.flow_id().as_str() && chosen.state == ChoiceState::Wanted
}

fn waits(session: &Session, message: &str, until: Timestamp) -> Outcome {
    Outcome::wait(options_key(&session.session_id), message).until(until)
}

#[cfg(test)]
mod tests;
