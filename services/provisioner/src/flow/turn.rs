//! The turn job: hands a recorded prompt to the agent, once.
//!
//! While the quota of the session's model provider is used up until a known time, the prompt waits for it.
//!
//! A delivery that fails for good, for any reason, starts [`UNDELIVERED`] in the same commit.
//!
//! The request's id is the message id, and the runtime passes each id on once, so a repetition is harmless.

mod adopt;
mod recall;

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Error, FlowId, MessageId, SessionId};
use foundry_flow::{
    Flow, FlowStatus, NewFlow, Outcome, Projection, Retry, Stage, StageContext, Status, enqueue, stage,
};
use foundry_proto::common::v1::{NoticeKind, TurnEnd, TurnOutcome};
use foundry_runtime_client::RequestId;
use foundry_store::WriteSet;
use serde::{Deserialize, Serialize};

use super::{StageError, UNTIL_DONE};
use crate::attachments::{PromptContent, prompt_content};
use crate::domain::fold::notice;
use crate::domain::{Session, SessionState, TurnState};
use crate::models::wait;
use crate::runtime::{append_to_transcript, end_turn};
use crate::shared::{Shared, acp_of};
use crate::store::{sandboxes, sessions, turns};

const RETRY: Retry =
    Retry { initial: Duration::from_millis(250), factor: 2, max_delay: Duration::from_secs(5), budget: 8 };

/// Delivers a prompt.
pub static TURN: Flow<Shared> = Flow::new(
    "turn",
    &[Stage::new("prompt", Duration::from_secs(60), RETRY, |s, ctx| stage(deliver(s, ctx)))],
)
.concurrency(512);

/// Ends a turn whose prompt could not be delivered. Nothing else would, so it is repeated without a limit.
pub static UNDELIVERED: Flow<Shared> = Flow::new(
    "turn_undelivered",
    &[Stage::new("end", Duration::from_secs(30), UNTIL_DONE, |shared, ctx| {
        stage(end_undelivered(shared, ctx))
    })],
);

/// The prompt to deliver.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Input {
    message_id: MessageId,
}

/// Adds the job of a turn.
pub fn enqueue_for(
    ws: &mut WriteSet,
    session: &Session,
    message_id: &MessageId,
    flow_id: FlowId,
    traceparent: &str,
) -> Result<(), Error> {
    let flow = NewFlow::new(&TURN, flow_id, message_id.as_str(), session.session_id.as_str())
        .organization(&session.organization_id)
        .traced(traceparent)
        .input(&Input { message_id: message_id.clone() })?;
    enqueue(ws, flow);
    Ok(())
}

/// Starts [`UNDELIVERED`] in the commit in which a delivery fails for good.
pub fn projection(env: &Env) -> impl Projection + use<> {
    let env = env.clone();
    move |flow: &FlowStatus| undelivered(flow, FlowId::generate(&env))
}

/// The flow that follows a delivery that failed for good.
fn undelivered(flow: &FlowStatus, flow_id: FlowId) -> WriteSet {
    let mut ws = WriteSet::new();
    let (Status::Failed, Ok(Input { message_id })) =
        (flow.status, serde_json::from_value(flow.input.clone()))
    else {
        return ws;
    };
    let failure = Failure { message_id, reason: flow.reason.clone(), message: flow.text() };
    let end = NewFlow::new(&UNDELIVERED, flow_id, failure.message_id.as_str(), flow.subject_id.as_str());
    let end = match &flow.organization_id {
        Some(organization) => end.organization(organization),
        None => end,
    };
    match end.traced(flow.traceparent.clone()).input(&failure) {
        Ok(end) => enqueue(&mut ws, end),
        Err(e) => tracing::error!(error = %e, "the end of a turn could not be recorded"),
    }
    ws
}

/// The delivery that failed, and why.
#[derive(Serialize, Deserialize)]
struct Failure {
    message_id: MessageId,
    reason: String,
    message: String,
}

/// Ends a turn whose delivery failed, with an error.
async fn end_undelivered(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let session_id: SessionId = ctx.subject_id().parse()?;
    let Failure { message_id, reason, message } = ctx.input()?;
    let turn = turns::find(&shared.store, &session_id, &message_id).await?;
    // If the agent did get the prompt, the log has the answer.
    if turn.is_some_and(|t| t.state == TurnState::Intended) {
        let end = TurnEnd {
            outcome: TurnOutcome::Error.into(),
            reason,
            message: format!("the prompt did not reach the agent: {message}"),
            ..TurnEnd::default()
        };
        end_turn(shared, &session_id, &message_id, &end).await?;
    }
    Ok(Outcome::done())
}

/// Hands the prompt to the runtime, which records it; the agent's answer comes from the log.
async fn deliver(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let (session_id, message_id) = ids(ctx)?;
    let session = sessions::find(&shared.store, &session_id).await?;
    let turn = turns::find(&shared.store, &session_id, &message_id).await?;
    let (Some(session), Some(turn)) = (session, turn) else { return Ok(Outcome::done()) };
    if turn.state != TurnState::Intended || session.state != SessionState::Running {
        return Ok(Outcome::done());
    }
    if turn.cancel_requested {
        let outcome = TurnOutcome::Cancelled.into();
        let stop_reason = "cancelled".to_owned();
        let end = TurnEnd { outcome, stop_reason, ..TurnEnd::default() };
        end_turn(shared, &session_id, &message_id, &end).await?;
        return Ok(Outcome::done());
    }
    if let Some(waits) = wait::keeps_back(shared, &session, &turn).await? {
        return Ok(waits);
    }
    let sandbox = sandboxes::find(&shared.store, &session.sandbox_id).await?;
    let Some(sandbox) = sandbox else {
        return Err(Outcome::fail("SANDBOX_GONE", "the sandbox of this session is gone").into());
    };
    let (acp, id) = (acp_of(&session)?, RequestId(turn.message_id.to_string()));
    // An agent without a model carries out each prompt literally: repeating the earlier ones would run them again.
    let thinks = shared.catalogue.get(&session.agent).is_ok_and(|agent| agent.needs_model());
    let prompt = match thinks {
        true => recall::prompt(&shared.store, &session, &turn).await?,
        false => turn.prompt.clone(),
    };
    let client = shared.client(&sandbox)?;
    let PromptContent { blocks, notices } =
        prompt_content(shared, &client, &sandbox, &session, &turn, prompt).await?;
    adopt::published(shared, &sandbox, &session).await;
    // The runtime has recorded the prompt when this returns; the turn's outcome is read from the log.
    client.prompt_with(&acp, &id, &session.acp_session, &blocks).await?;
    if !notices.is_empty() {
        append_notices(shared, &session_id, &notices).await?;
    }
    Ok(Outcome::done())
}

/// Adds notices to the transcript about files that reached the agent in another form than they were sent.
async fn append_notices(shared: &Shared, session_id: &SessionId, notices: &[String]) -> Result<(), Error> {
    let decide = || async {
        let mut ws = WriteSet::new();
        let Some(session) = sessions::find(&shared.store, session_id).await? else { return Ok((ws, ())) };
        let bodies = notices.iter().map(|text| notice(NoticeKind::Attachment, text.as_str())).collect();
        let set = append_to_transcript(&mut ws, &session, None, bodies, shared.env.clock.now());
        sessions::update(&mut ws, &session, set);
        Ok((ws, ()))
    };
    shared.store.retry_on_conflict(decide).await?;
    Ok(())
}

fn ids(ctx: &StageContext) -> Result<(SessionId, MessageId), Error> {
    Ok((ctx.subject_id().parse()?, ctx.input::<Input>()?.message_id))
}

#[cfg(test)]
mod tests;
