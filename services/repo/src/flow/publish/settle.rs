//! Finds out whether a push has arrived whose publication has ended without knowing, and records it.

use std::time::Duration;

use foundry_core::Result;
use foundry_flow::{Flow, Outcome, Stage, StageContext, stage};
use foundry_proto::repo::v1::JobBranchState;

use super::{load, recorded, with_branch};
use crate::broker;
use crate::context::Context;
use crate::flow::pushing::{ASK, ASKED, audited, stopped};

/// Key and subject are the job's id.
pub static SETTLE: Flow<Context> = Flow::new(
    "publication_outcome",
    &[Stage::new("asking", Duration::from_secs(5 * 60), ASK, |cx, flow| stage(settle(cx, flow)))],
)
.concurrency(2);

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
        audited(&mut ws, &flow.flow().user_id, &loaded.job, &loaded.planned);
    }
    Box::pin(recorded(cx, flow, loaded, ws)).await
}
