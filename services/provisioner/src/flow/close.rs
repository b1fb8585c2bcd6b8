//! The close job: ends the agent process of a closed session.
//!
//! | stage | does                                          | limit |
//! |-------|-----------------------------------------------|-------|
//! | close | stops reading the log, ends the agent process | 30 s  |

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::SessionId;
use foundry_flow::{Binding, Flow, NewFlow, Outcome, Stage, StageContext, StageSpec, enqueue};
use foundry_store::WriteSet;

use super::{Halt, UNTIL_DONE, outcome};
use crate::domain::{SandboxState, Session};
use crate::shared::{Shared, acp_of};
use crate::store::{sandboxes, sessions};

/// Ends an agent process.
pub static CLOSE: Flow =
    Flow::new("close", &[StageSpec::new("close", Duration::from_secs(30), UNTIL_DONE)]).concurrency(64);

/// Adds the job.
pub fn enqueue_for(ws: &mut WriteSet, shared: &Shared, session: &Session) {
    let id = session.session_id.as_str();
    let flow = NewFlow::new(&CLOSE, shared.flow_id(), id, id).organization(&session.organization_id);
    enqueue(ws, flow);
}

/// The job with its code.
pub fn binding(shared: &Arc<Shared>) -> Binding {
    Binding::job(&CLOSE, Close(Arc::clone(shared)))
}

struct Close(Arc<Shared>);

#[async_trait]
impl Stage for Close {
    async fn run(&self, ctx: &StageContext) -> Outcome {
        outcome(self.close(ctx).await)
    }
}

impl Close {
    async fn close(&self, ctx: &StageContext) -> Result<Outcome, Halt> {
        let id: SessionId = ctx.subject_id().parse()?;
        self.0.pumps.stop(&id);
        let Some(session) = sessions::find(&self.0.store, &id).await? else { return Ok(Outcome::done()) };
        let sandbox = sandboxes::find(&self.0.store, &session.sandbox_id).await?;
        let ready = sandbox.filter(|s| s.state == SandboxState::Ready && s.facts.is_some());
        let Some(sandbox) = ready else { return Ok(Outcome::done()) };
        match self.0.client(&sandbox)?.close(&acp_of(&session)?).await {
            // There was no agent process under this name.
            Ok(()) => Ok(Outcome::done()),
            Err(e) if e.is_refused("not_found") => Ok(Outcome::done()),
            Err(e) => Err(e.into()),
        }
    }
}
