//! The answer job: brings an answer to the agent, to a request for permission or to a form. A second delivery is not
//! passed on by the tap.
//!
//! | stage  | does                                 | limit |
//! |--------|--------------------------------------|-------|
//! | answer | POSTs the answer to the agent's request | 30 s  |

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{Error, SessionId};
use foundry_flow::{Binding, Flow, NewFlow, Outcome, Stage, StageContext, StageSpec, enqueue};
use foundry_store::WriteSet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Halt, PATIENT, outcome};
use crate::domain::{Session, SessionState};
use crate::shared::{Shared, acp_of};
use crate::store::{sandboxes, sessions};

/// Delivers an answer.
pub static ANSWER: Flow =
    Flow::new("permission_answer", &[StageSpec::new("answer", Duration::from_secs(30), PATIENT)])
        .concurrency(64);

#[derive(Serialize, Deserialize)]
struct Input {
    acp_id: Value,
    option: Option<String>,
    generation: i64,
    /// The whole answer, where it is not one to a request for permission.
    #[serde(default)]
    result: Option<Value>,
}

/// Adds the job.
///
/// # Errors
/// Never: the input can be written as JSON.
pub fn enqueue_for(
    ws: &mut WriteSet,
    shared: &Shared,
    session: &Session,
    acp_id: &Value,
    option: Option<&str>,
) -> Result<(), Error> {
    let (acp_id, option) = (acp_id.clone(), option.map(str::to_owned));
    add(ws, shared, session, &Input { acp_id, option, generation: session.generation, result: None })
}

/// Adds the job of an answer that is written already.
///
/// # Errors
/// Never: the input can be written as JSON.
pub fn enqueue_result(
    ws: &mut WriteSet,
    shared: &Shared,
    session: &Session,
    acp_id: &Value,
    result: Value,
) -> Result<(), Error> {
    let (acp_id, result) = (acp_id.clone(), Some(result));
    add(ws, shared, session, &Input { acp_id, option: None, generation: session.generation, result })
}

fn add(ws: &mut WriteSet, shared: &Shared, session: &Session, input: &Input) -> Result<(), Error> {
    let flow_id = shared.flow_id();
    let flow = NewFlow::new(&ANSWER, flow_id.clone(), flow_id.as_str(), session.session_id.as_str())
        .organization(&session.organization_id)
        .input(input)?;
    enqueue(ws, flow);
    Ok(())
}

/// The job with its code.
pub fn binding(shared: &Arc<Shared>) -> Binding {
    Binding::job(&ANSWER, Answer(Arc::clone(shared)))
}

struct Answer(Arc<Shared>);

#[async_trait]
impl Stage for Answer {
    async fn run(&self, ctx: &StageContext) -> Outcome {
        outcome(self.answer(ctx).await)
    }
}

impl Answer {
    async fn answer(&self, ctx: &StageContext) -> Result<Outcome, Halt> {
        let id: SessionId = ctx.subject_id().parse()?;
        let input: Input = ctx.input()?;
        let session = sessions::find(&self.0.store, &id).await?;
        // An agent that was started anew never asked.
        let same = |s: &Session| {
            let declines = input.result.is_some() && s.state == SessionState::Ready;
            (s.state == SessionState::Running || declines) && s.generation == input.generation
        };
        let Some(session) = session.filter(same) else { return Ok(Outcome::done()) };
        let sandbox = sandboxes::find(&self.0.store, &session.sandbox_id).await?;
        let Some(sandbox) = sandbox else { return Ok(Outcome::done()) };
        let acp = acp_of(&session)?;
        let client = self.0.client(&sandbox)?;
        match &input.result {
            Some(result) => client.answer(&acp, &input.acp_id, result).await?,
            None => client.answer_permission(&acp, &input.acp_id, input.option.as_deref()).await?,
        }
        Ok(Outcome::done())
    }
}
