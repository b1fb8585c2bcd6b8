//! Finds out whether a push has arrived whose publication has ended without knowing, and records it.

use std::time::Duration;

use foundry_core::{Env, FlowId, Result};
use foundry_flow::{Flow, FlowStatus, NewFlow, Outcome, Retry, Stage, StageContext, enqueue, stage};
use foundry_proto::repo::v1::JobBranchState;
use foundry_store::WriteSet;

use super::{audited, load, recorded, stopped, with_branch};
use crate::broker;
use crate::context::Context;

/// Key and subject are the job's id.
pub static SETTLE: Flow<Context> = Flow::new(
    "publication_outcome",
    &[Stage::new(
        "asking",
        Duration::from_secs(5 * 60),
        // A remote that was away for days is asked once it is back.
        Retry {
            initial: Duration::from_secs(10),
            factor: 3,
            max_delay: Duration::from_secs(3600),
            budget: 170,
        },
        |cx, flow| stage(settle(cx, flow)),
    )],
)
.concurrency(2);

/// A push that was cut off may still arrive while a hook of the remote runs: so many times it is asked.
const ASKED: u32 = 4;

/// Adds it for a job that has ended during its push.
pub fn schedule(ws: &mut WriteSet, env: &Env, ended: &FlowStatus) {
    let new = NewFlow::new(&SETTLE, FlowId::generate(env), &ended.subject_id, &ended.subject_id)
        .on_behalf_of(&ended.user_id)
        .traced(&ended.traceparent);
    let new = match &ended.organization_id {
        Some(organization) => new.organization(organization),
        None => new,
    };
    enqueue(ws, new);
}

async fn settle(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let mut loaded = match load(cx, flow).await? {
        Ok(loaded) => loaded,
        Err(_) => return Ok(Outcome::done()),
    };
    let before = loaded.planned.state();
    if !matches!(before, JobBranchState::Pushing | JobBranchState::Pushed) {
        return Ok(Outcome::done());
    }
    let remote = broker::remote(cx, &loaded.repository).await?;
    let tip = tokio::select! {
        tip = loaded.mirror.remote_tip(&remote.url, &loaded.branch) => tip,
        () = flow.cancellation().cancelled() => return Ok(stopped()),
    };
    match tip {
        // A credential that was withdrawn may be replaced.
        Err(e) => return Ok(Outcome::retry(e.reason(), e.message())),
        Ok(tip) if tip.commit.as_ref().is_some_and(|c| c.as_str() == loaded.planned.new_commit) => {}
        Ok(_) if flow.attempt() < ASKED => {
            let text = "the remote does not have the new commit yet";
            return Ok(Outcome::retry("PUSH_NOT_ARRIVED", text));
        }
        Ok(_) => return Ok(Outcome::done()),
    }
    loaded.planned.state = JobBranchState::Pushed.into();
    let mut ws = with_branch(&loaded.job, &loaded.planned);
    if before == JobBranchState::Pushing {
        audited(&mut ws, flow, &loaded.job, &loaded.planned);
    }
    Box::pin(recorded(cx, flow, loaded, ws)).await
}
