//! The release job: the repo service learns that the clone of a destroyed sandbox is gone, so that the repository can be
//! deleted. A destruction does not wait for it.

use std::sync::Arc;
use std::time::Duration;

use foundry_flow::{Flow, NewFlow, Outcome, Stage, StageContext, enqueue, stage};
use foundry_proto::repo::v1::ReleaseCloneRequest;
use foundry_store::WriteSet;

use super::{StageError, UNTIL_DONE};
use crate::domain::Sandbox;
use crate::shared::Shared;

/// Releases a clone.
pub static RELEASE: Flow<Shared> = Flow::new(
    "clone_release",
    &[Stage::new("release", Duration::from_secs(30), UNTIL_DONE, |s, ctx| stage(release(s, ctx)))],
)
.concurrency(16);

/// Adds the job.
pub fn enqueue_for(ws: &mut WriteSet, shared: &Shared, sandbox: &Sandbox) {
    // A key of its own: the stage that adds it may be repeated.
    let flow_id = shared.flow_id();
    let flow = NewFlow::new(&RELEASE, flow_id.clone(), flow_id.as_str(), sandbox.sandbox_id.as_str())
        .organization(&sandbox.organization_id);
    enqueue(ws, flow);
}

async fn release(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let request = ReleaseCloneRequest { sandbox_id: ctx.subject_id().to_owned() };
    Ok(match shared.repo.clone().release_clone(request).await {
        Ok(_) => Outcome::done(),
        // A repo service that does not record clones yet.
        Err(status) if status.code() == tonic::Code::Unimplemented => Outcome::done(),
        Err(status) => {
            let message = format!("the repo service: {}", status.message());
            Outcome::retry(foundry_service::reason_of(&status), message).of_class("provider")
        }
    })
}
