//! The close job: ends the agent process of a closed session.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::SessionId;
use foundry_flow::{Flow, NewFlow, Outcome, Stage, StageContext, enqueue, stage};
use foundry_store::WriteSet;

use super::{StageError, UNTIL_DONE};
use crate::domain::{SandboxState, Session};
use crate::shared::{Shared, acp_of};
use crate::store::{sandboxes, sessions};

/// Ends an agent process.
pub static CLOSE: Flow<Shared> = Flow::new(
    "close",
    &[Stage::new("close", Duration::from_secs(30), UNTIL_DONE, |s, ctx| stage(close(s, ctx)))],
)
.concurrency(64);

/// Adds the job.
pub fn enqueue_for(ws: &mut WriteSet, shared: &Shared, session: &Session) {
    let id = session.session_id.as_str();
    let flow = NewFlow::new(&CLOSE, shared.flow_id(), id, id).organization(&session.organization_id);
    enqueue(ws, flow);
}

/// Stops the pump of the session and ends the agent process.
async fn close(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let id: SessionId = ctx.subject_id().parse()?;
    shared.pumps.stop(&id);
    let Some(session) = sessions::find(&shared.store, &id).await? else { return Ok(Outcome::done()) };
    let sandbox = sandboxes::find(&shared.store, &session.sandbox_id).await?;
    let ready = sandbox.filter(|s| s.state == SandboxState::Ready && s.facts.is_some());
    let Some(sandbox) = ready else { return Ok(Outcome::done()) };
    match shared.client(&sandbox)?.close(&acp_of(&session)?).await {
        // There was no agent process under this name.
        Ok(()) => Ok(Outcome::done()),
        Err(e) if e.is_refused("not_found") => Ok(Outcome::done()),
        Err(e) => Err(e.into()),
    }
}
