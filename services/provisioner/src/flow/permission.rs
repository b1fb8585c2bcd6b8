//! The answer job: delivers answers to an agent's permission requests and forms. The tap drops a second delivery.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Error, SessionId};
use foundry_flow::{Flow, NewFlow, Outcome, Stage, StageContext, enqueue, stage, unfinished};
use foundry_runtime_client::{ClientError, RuntimeClient};
use foundry_sandbox::AcpId;
use foundry_store::WriteSet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{StageError, UNTIL_DONE};
use crate::domain::{Session, SessionState};
use crate::shared::{Shared, acp_of};
use crate::store::{sandboxes, sessions};

/// Delivers answers to the requests of an agent.
pub static ANSWER: Flow<Shared> = Flow::new(
    "permission_answer",
    &[Stage::new("answer", Duration::from_secs(30), UNTIL_DONE, |shared, ctx| stage(deliver(shared, ctx)))],
)
.concurrency(64);

/// Unfinished jobs of a session from which on the policy's answers are dropped.
const MAX_WAITING: usize = 64;

#[derive(Serialize, Deserialize)]
struct Input {
    generation: i64,
    #[serde(default)]
    answers: Vec<Answer>,
    /// A single answer, as jobs of earlier versions have it.
    #[serde(flatten)]
    only: Option<Answer>,
}

/// An answer to one request of the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    acp_id: Value,
    option: Option<String>,
    /// The whole answer; none for a person's answer to a permission request.
    #[serde(default)]
    result: Option<Value>,
}

impl Answer {
    /// The answer to a permission request; no option = the request is cancelled.
    pub fn permission(acp_id: &Value, option: Option<&str>) -> Self {
        Self { acp_id: acp_id.clone(), option: option.map(str::to_owned), result: None }
    }

    /// An answer that is already in the form of the protocol.
    pub fn written(acp_id: &Value, result: Value) -> Self {
        Self { acp_id: acp_id.clone(), option: None, result: Some(result) }
    }

    /// Sends it to the agent. A person's answer is sent only while a turn runs (`speaks`).
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn deliver(
        &self,
        client: &RuntimeClient,
        acp: &AcpId,
        speaks: bool,
    ) -> Result<(), ClientError> {
        match &self.result {
            Some(result) => client.answer(acp, &self.acp_id, result).await,
            None if speaks => client.answer_permission(acp, &self.acp_id, self.option.as_deref()).await,
            None => Ok(()),
        }
    }
}

/// Adds the job of these answers by policy, unless the agent has not read the earlier ones for long.
pub async fn enqueue_by_policy(
    ws: &mut WriteSet,
    shared: &Shared,
    session: &Session,
    answers: Vec<Answer>,
) -> Result<(), Error> {
    if answers.is_empty() {
        return Ok(());
    }
    let waiting = unfinished(&shared.store, &ANSWER, session.session_id.as_str()).await?.len();
    if waiting >= MAX_WAITING {
        let (session, answers) = (&session.session_id, answers.len());
        tracing::warn!(%session, answers, "an agent does not read its answers; further ones are dropped");
        return Ok(());
    }
    enqueue_for(ws, shared, session, answers)
}

/// Adds the job of these answers by people and policies, in this order.
pub fn enqueue_for(
    ws: &mut WriteSet,
    shared: &Shared,
    session: &Session,
    answers: Vec<Answer>,
) -> Result<(), Error> {
    if answers.is_empty() {
        return Ok(());
    }
    let input = Input { generation: session.generation, answers, only: None };
    let flow_id = shared.flow_id();
    let flow = NewFlow::new(&ANSWER, flow_id.clone(), flow_id.as_str(), session.session_id.as_str())
        .organization(&session.organization_id)
        .input(&input)?;
    enqueue(ws, flow);
    Ok(())
}

/// Delivers the answers to the agent's requests.
async fn deliver(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let id: SessionId = ctx.subject_id().parse()?;
    let input: Input = ctx.input()?;
    let session = sessions::find(&shared.store, &id).await?;
    // A restarted agent has forgotten its questions.
    let Some(session) = session.filter(|s| s.generation == input.generation) else {
        return Ok(Outcome::done());
    };
    // Questions outside of a turn are answered too: an agent may wait for the answer before it can be prompted.
    let speaks = match session.state {
        SessionState::Running => true,
        SessionState::Ready | SessionState::Creating => false,
        _ => return Ok(Outcome::done()),
    };
    let sandbox = sandboxes::find(&shared.store, &session.sandbox_id).await?;
    let Some(sandbox) = sandbox else { return Ok(Outcome::done()) };
    let acp = acp_of(&session)?;
    let client = shared.client(&sandbox)?;
    let mut failed = None;
    for answer in input.answers.iter().chain(&input.only) {
        // One that the agent does not take must not hold up the others.
        failed = failed.or(answer.deliver(&client, &acp, speaks).await.err());
    }
    match failed {
        Some(e) => Err(e.into()),
        None => Ok(Outcome::done()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_of_one_answer_as_it_was_written_before_is_still_read() {
        let old = json!({"acp_id": 7, "option": "yes", "generation": 1, "result": null});
        let read: Input = serde_json::from_value(old).unwrap();
        let only = read.only.unwrap();
        assert_eq!((only.acp_id, only.option.as_deref(), read.answers.len()), (json!(7), Some("yes"), 0));
        let new = Input { generation: 1, answers: vec![Answer::permission(&json!(8), None)], only: None };
        let read: Input = serde_json::from_value(serde_json::to_value(&new).unwrap()).unwrap();
        assert_eq!((read.answers[0].acp_id.clone(), read.only.is_none()), (json!(8), true));
    }
}
