//! The order of jobs: one after another on the same branches, and not too many of one organization at once.

use std::time::Duration;

use foundry_core::Result;
use foundry_flow::Outcome;

use crate::context::Context;
use crate::domain::job::{self, Job, Kind};
use crate::store::jobs;

/// Jobs of one organization at once: its slow remotes leave room for the others'.
pub const MAX_AT_ONCE: i64 = 3;

/// A further attempt looks at least this often whether it is its turn.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What a job waits for; none when it is its turn.
///
/// # Errors
/// When the database fails.
pub async fn wait(cx: &Context, job: &Job) -> Result<Option<Outcome>> {
    let reason = "JOB_QUEUED";
    // A plan of a publication changes nothing, and says what holds at this moment.
    let is_plan = matches!(&job.kind, Kind::Publish(publish) if publish.plan_only);
    if !is_plan && let Some(earlier) = jobs::before(&cx.store, job).await? {
        let what = jobs::find(&cx.store, &earlier).await?.map(|job| words(&job)).unwrap_or_default();
        let text = format!("an earlier job on the same branch or stack comes first: {what}({earlier})");
        return Ok(Some(Outcome::wait(job::ended(earlier.as_str()), text).because(reason)));
    }
    if jobs::heads_before(&cx.store, job).await? >= MAX_AT_ONCE {
        let text = format!("{MAX_AT_ONCE} earlier jobs of the organization come first");
        let key = job::turn_of_organization(job.organization_id.as_str());
        return Ok(Some(Outcome::wait(key, text).because(reason)));
    }
    Ok(None)
}

/// A job as people know it: what it does, and to which branch.
fn words(job: &Job) -> String {
    let kind = job.kind.as_str().replace('_', " ");
    match job.first_branch() {
        "" => format!("{kind} "),
        branch => format!("{kind} {branch} "),
    }
}

/// What an attempt waits for: between two attempts a job holds no place of its organization, so each takes its turn.
///
/// # Errors
/// When the database fails.
pub async fn again(cx: &Context, job: &Job) -> Result<Option<Outcome>> {
    if jobs::at_work(&cx.store, job).await? < MAX_AT_ONCE {
        return Ok(None);
    }
    let text = format!("{MAX_AT_ONCE} other jobs of the organization come first");
    let key = job::turn_of_organization(job.organization_id.as_str());
    let until = cx.env.clock.now().plus(LOOK_AGAIN);
    Ok(Some(Outcome::wait(key, text).because("JOB_QUEUED").until(until)))
}
