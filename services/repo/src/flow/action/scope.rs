//! Which branches an action may change: those that the overview shows in its stack.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use foundry_core::Result;
use foundry_flow::Outcome;
use foundry_store::{Scope, WriteSet};

use super::QUEUED;
use super::stack::MAX_BRANCHES;
use crate::context::Context;
use crate::domain::job::{self, Action, Job, Kind};
use crate::domain::repository::Repository;
use crate::domain::restack;
use crate::flow::overview;
use crate::store::{branch_overviews, jobs, repositories};

/// How long a job waits for the first overview.
const WAIT: Duration = Duration::from_secs(10 * 60);
/// It looks at least this often whether the overview is there.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Whether the stacks that an action is about are not known yet.
pub fn is_unknown(repository: &Repository, action: Action) -> bool {
    action.is_of_stacks() && repository.overview.complete.as_micros() == 0
}

/// The branches that the action may change, as the overview shows them now. Work that exists only in Foundry is in no stack.
///
/// # Errors
/// When the database fails.
pub async fn touched(
    cx: &Context,
    repository: &Repository,
    action: Action,
    (branch, parent): (&str, &str),
) -> Result<BTreeSet<String>> {
    if !action.is_of_stacks() {
        return Ok(BTreeSet::new());
    }
    let base = repository.default_branch.as_str();
    let parents: HashMap<String, String> =
        branch_overviews::parents(&cx.store, &repository.repository_id).await?;
    if action == Action::RestackRepo {
        return Ok(restack::stacked(base, &parents));
    }
    let mut all = restack::stack_of(base, &parents, branch);
    if !parent.is_empty() && parent != base {
        all.extend(restack::stack_of(base, &parents, parent));
    }
    Ok(all)
}

/// What a job waits for that was requested before the first overview; none when its branches are known.
///
/// # Errors
/// When the database fails.
pub async fn known(cx: &Context, job: &Job) -> Result<Option<Outcome>> {
    let Kind::Action(action, settings) = &job.kind else { return Ok(None) };
    if !settings.awaits_overview {
        return Ok(None);
    }
    let Some(repository) = repositories::find(&cx.store, &job.repository_id).await? else {
        return Ok(Some(Outcome::fail("REPOSITORY_REMOVED", "the repository is being removed")));
    };
    if is_unknown(&repository, *action) {
        let (reason, now) = ("OVERVIEW_PENDING", cx.env.clock.now());
        if now > job.create_time.plus(WAIT) {
            let text = "the stacks of the repository are not known yet: its first overview has not ended";
            return Ok(Some(Outcome::fail(reason, text)));
        }
        let (done, total) = (repository.overview.done, repository.overview.total);
        let text = match total {
            0 => "the stacks of the repository are looked at first".to_owned(),
            total => format!("the stacks of the repository are looked at first: {done} of {total} branches"),
        };
        let key = overview::complete_key(&job.repository_id);
        return Ok(Some(Outcome::wait(key, text).because(reason).until(now.plus(LOOK_AGAIN))));
    }
    let others = touched(cx, &repository, *action, (&settings.branch, &settings.parent)).await?;
    if others.len() > MAX_BRANCHES {
        let text = format!("the action is about {} branches; at most {MAX_BRANCHES} can be", others.len());
        return Ok(Some(Outcome::fail("TOO_MANY_BRANCHES", text)));
    }
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&job.organization_id));
    jobs::set_scope(&mut ws, rev, job, &others);
    // Later jobs may be about other branches than those which are known now.
    foundry_flow::signal(&mut ws, &cx.env, &job::ended(job.job_id.as_str()));
    Ok(Some(Outcome::goto(QUEUED).recording(ws)))
}
