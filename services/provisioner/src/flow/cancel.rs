//! The cancel job: makes the agent stop its turn. It asks first, and ends the agent's process as a last resort.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Error, MessageId, SessionId, Timestamp};
use foundry_flow::{Flow, NewFlow, Outcome, Stage, StageContext, enqueue, stage};
use foundry_proto::common::v1::{TurnEnd, TurnOutcome};
use foundry_runtime_client::RuntimeClient;
use foundry_store::WriteSet;
use serde::{Deserialize, Serialize};

use super::{RETRY_LONG, StageError};
use crate::domain::{Session, Turn, TurnState};
use crate::runtime::end_turn;
use crate::shared::{Shared, acp_of};
use crate::store::{elicitations, permissions, sandboxes, sessions, turns};

/// Stops a turn.
pub static CANCEL: Flow<Shared> = Flow::new(
    "cancel",
    &[Stage::new("cancel", Duration::from_secs(60), RETRY_LONG, |s, ctx| stage(cancel(s, ctx)))],
)
.concurrency(64);

/// How long an agent may take to end its turn after it was asked, before its process is ended.
const OBEY: Duration = Duration::from_secs(15);
/// Attempts to have the runtime pass on the stop or end the process.
const TRIES: u32 = 4;
/// How long a prompt on its way to the agent is waited for: a turn that the agent does not have cannot be stopped.
const ON_ITS_WAY: Duration = Duration::from_secs(15);
/// How long to answer pending questions with "cancelled" before the stop itself is sent.
const ANSWERS: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);

#[derive(Serialize, Deserialize)]
struct Input {
    message_id: MessageId,
    /// Stops the turn only while the model provider's refusal with this reason stands.
    #[serde(default)]
    refused: Option<String>,
}

/// State of the stage once the agent was asked to stop.
#[derive(Serialize, Deserialize)]
struct Asked {
    /// When its process is ended if the turn has not.
    until: Timestamp,
}

/// Adds the job.
pub fn enqueue_for(
    ws: &mut WriteSet,
    shared: &Shared,
    session: &Session,
    message_id: &MessageId,
) -> Result<(), Error> {
    let flow = NewFlow::new(&CANCEL, shared.flow_id(), message_id.as_str(), session.session_id.as_str())
        .organization(&session.organization_id)
        .input(&Input { message_id: message_id.clone(), refused: None })?;
    enqueue(ws, flow);
    Ok(())
}

/// The same after a delay, for a turn that the agent should end by itself. Nothing happens when the model provider
/// has answered a call since.
pub fn enqueue_after(
    ws: &mut WriteSet,
    shared: &Shared,
    session: &Session,
    message_id: &MessageId,
    refused: &str,
    after: Duration,
) -> Result<(), Error> {
    let flow_id = shared.flow_id();
    let flow = NewFlow::new(&CANCEL, flow_id.clone(), flow_id.as_str(), session.session_id.as_str())
        .organization(&session.organization_id)
        .input(&Input { message_id: message_id.clone(), refused: Some(refused.to_owned()) })?
        .after(after);
    enqueue(ws, flow);
    Ok(())
}

async fn turn(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Option<(Session, Turn)>, Error> {
    let session_id: SessionId = ctx.subject_id().parse()?;
    let message_id = ctx.input::<Input>()?.message_id;
    let session = sessions::find(&shared.store, &session_id).await?;
    let turn = turns::find(&shared.store, &session_id, &message_id).await?;
    Ok(session.zip(turn.filter(|t| t.state != TurnState::Ended)))
}

async fn give_up(shared: &Arc<Shared>, session: &Session, turn: &Turn, why: &str) -> Result<(), Error> {
    let end = TurnEnd {
        outcome: TurnOutcome::Interrupted.into(),
        reason: "RUNTIME_SILENT".to_owned(),
        message: format!("the agent could not be stopped: {why}"),
        ..TurnEnd::default()
    };
    end_turn(shared, &session.session_id, &turn.message_id, &end).await
}

/// Answers pending questions with "cancelled" and sends the stop; ends an agent that does not obey in time.
async fn cancel(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let sent_by = ctx.env().clock.now().plus(ON_ITS_WAY);
    let refused = ctx.input::<Input>()?.refused;
    loop {
        let Some((session, turn)) = turn(shared, ctx).await? else { return Ok(Outcome::done()) };
        let stands = |reason: &str| session.model_condition.as_ref().is_some_and(|c| c.reason == reason);
        // A prompt that was not sent cannot have been refused: that was an earlier call.
        let kept_back = turn.state == TurnState::Intended;
        if refused.as_deref().is_some_and(|reason| kept_back || !stands(reason)) {
            return Ok(Outcome::done());
        }
        let sandbox = sandboxes::find(&shared.store, &session.sandbox_id).await?;
        let Some(sandbox) = sandbox.filter(|s| s.facts.is_some()) else { return Ok(Outcome::done()) };
        let client = shared.client(&sandbox)?;
        let now = ctx.env().clock.now();
        if let Ok(Asked { until }) = ctx.state() {
            if now < until {
                return Ok(obeying(&turn, until));
            }
            return end_agent(shared, ctx, &client, &session, &turn).await;
        }
        if turn.state == TurnState::Sent || now >= sent_by {
            ask(shared, ctx, &client, &session).await?;
            // Counted from now, however late the flow itself was.
            return Ok(obeying(&turn, ctx.env().clock.now().plus(OBEY)));
        }
        ctx.env().clock.sleep(LOOK).await;
    }
}

async fn ask(
    shared: &Arc<Shared>,
    ctx: &StageContext,
    client: &RuntimeClient,
    session: &Session,
) -> Result<(), StageError> {
    let acp = acp_of(session)?;
    let permissions = permissions::pending(&shared.store, &session.session_id).await?;
    let forms = elicitations::pending(&shared.store, &session.session_id).await?;
    let answer = async {
        for waiting in permissions {
            // Whether the runtime can be reached shows with the stop itself.
            let _ = client.answer_permission(&acp, &waiting.acp_id, None).await;
        }
        for waiting in forms {
            let _ = client.answer(&acp, &waiting.acp_id, &foundry_forms::cancelled()).await;
        }
    };
    // Many pending questions and a runtime that hangs must not use up the time for the stop itself.
    tokio::select! {
        () = answer => {}
        () = ctx.env().clock.sleep(ANSWERS) => {}
    }
    match client.cancel(&acp, &session.acp_session).await {
        Err(e) if ctx.attempt() < TRIES => Err(e.into()),
        Err(e) => {
            tracing::warn!(session = %session.session_id, error = %e, "the agent did not accept the stop");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

async fn end_agent(
    shared: &Arc<Shared>,
    ctx: &StageContext,
    client: &RuntimeClient,
    session: &Session,
    turn: &Turn,
) -> Result<Outcome, StageError> {
    tracing::warn!(session = %session.session_id, "the agent did not stop; terminating its process");
    match client.close(&acp_of(session)?).await {
        Err(e) if ctx.attempt() < TRIES && !e.is_refused("not_found") => Err(e.into()),
        // A runtime that does not answer keeps its agent until the health watch finds it dead; the turn ends all the
        // same.
        Err(e) => {
            give_up(shared, session, turn, &e.to_string()).await?;
            Ok(Outcome::done())
        }
        Ok(()) => Ok(Outcome::done()),
    }
}

/// Waits for the agent to end its turn. Nothing signals that: the job looks again at the deadline.
fn obeying(turn: &Turn, until: Timestamp) -> Outcome {
    Outcome::wait(format!("turn/{}", turn.message_id), "waiting for the agent to end its turn")
        .until(until)
        .with_state(&Asked { until })
}
