//! The order of jobs: one after another on the same branches, and not too many of one organization at once.

use foundry_core::Result;
use foundry_flow::Outcome;

use crate::context::Context;
use crate::domain::job::{self, Job};
use crate::store::jobs;

/// Jobs of one organization at once: its slow remotes leave room for the others'.
pub const MAX_AT_ONCE: i64 = 3;

/// What a job waits for; none when it is its turn.
///
/// # Errors
/// When the database fails.
pub async fn wait(cx: &Context, job: &Job) -> Result<Option<Outcome>> {
    let reason = "JOB_QUEUED";
    if let Some(earlier) = jobs::before(&cx.store, job).await? {
        let text = format!("the job {earlier} on the same branch or stack comes first");
        return Ok(Some(Outcome::wait(job::ended(earlier.as_str()), text).because(reason)));
    }
    if jobs::heads_before(&cx.store, job).await? >= MAX_AT_ONCE {
        let text = format!("{MAX_AT_ONCE} earlier jobs of the organization come first");
        let key = job::turn_of_organization(job.organization_id.as_str());
        return Ok(Some(Outcome::wait(key, text).because(reason)));
    }
    Ok(None)
}
