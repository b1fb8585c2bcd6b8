//! Performs actions on branches of a remote: all commits are made in the mirror first, then all branches are pushed at once,
//! each with a lease on where it was found.

mod make;
mod plan;
mod push;
mod record;
pub mod scope;
pub mod settle;
mod stack;
#[cfg(test)]
mod tests;
mod undone;

pub use stack::MAX_BRANCHES;

use std::time::Duration;

use foundry_core::{Env, Error, JobId, Result};
use foundry_flow::{Flow, FlowStatus, Outcome, Projection, Stage, StageContext, Transition, stage};
use foundry_git::{Mirror, MirrorLimits};
use foundry_proto::common::v1::Condition;
use foundry_proto::repo::v1::ActionSettings;
use foundry_store::{Scope, Value, WriteSet};

use crate::broker;
use crate::context::Context;
use crate::domain::job::{self, Action, Job, Kind, State};
use crate::domain::publishing;
use crate::domain::repository::{self, Repository};
use crate::flow::pushing::{Failed, RECORD, RETRY, failed, refused, settle_later, stopped};
use crate::flow::turn;
use crate::store::{jobs, repositories};

/// Key and subject are the job's id.
pub static ACTION: Flow<Context> = Flow::new(
    "repository_action",
    &[
        Stage::new(QUEUED, Duration::from_secs(60), RETRY, |cx, flow| stage(await_turn(cx, flow))),
        Stage::new(PLANNING, Duration::from_secs(15 * 60), RETRY, |cx, flow| stage(plan::plan(cx, flow))),
        Stage::new(PUSHING, Duration::from_secs(15 * 60), RETRY, |cx, flow| stage(push::push(cx, flow))),
        Stage::new(RECORDING, Duration::from_secs(2 * 60), RECORD, |cx, flow| {
            stage(record::record(cx, flow))
        }),
    ],
)
// Most of them wait for a remote, some for a processor.
.concurrency(4);

const QUEUED: &str = "queued";
const PLANNING: &str = "planning";
const PUSHING: &str = "pushing";
const RECORDING: &str = "recording";

/// What a stage works with.
struct Loaded {
    job: Job,
    action: Action,
    settings: ActionSettings,
    repository: Repository,
    mirror: Mirror,
}

impl Loaded {
    /// Whether the action changes nothing at the remote, by its kind or because it was asked to stop.
    fn only_reads(&self) -> bool {
        self.settings.plan_only || matches!(self.action, Action::SyncRepo | Action::RegisterExistingBranch)
    }

    /// Whether nobody else has the commits that it pushes.
    fn makes_commits(&self) -> bool {
        self.action != Action::Undo
    }

    /// A write set with the job's branches as they are now.
    fn recorded(&self) -> WriteSet {
        let mut ws = WriteSet::new();
        let rev = ws.scope(Scope::organization(&self.job.organization_id));
        jobs::set_branches(&mut ws, rev, &self.job);
        ws
    }
}

/// How the stage ends instead when the job or the repository is gone or going.
async fn load(cx: &Context, flow: &StageContext) -> Result<std::result::Result<Loaded, Outcome>> {
    let id: JobId = flow.subject_id().parse()?;
    let Some(job) = jobs::find(&cx.store, &id).await? else { return Ok(Err(Outcome::done())) };
    let Kind::Action(action, settings) = job.kind.clone() else {
        return Err(Error::internal(format!("{id} is no action")));
    };
    let repository = repositories::find(&cx.store, &job.repository_id).await?;
    let Some(repository) = repository.filter(|r| r.state != repository::State::Deleting) else {
        return Ok(Err(Outcome::fail("REPOSITORY_REMOVED", "the repository is being removed")));
    };
    let path = cx.mirror_path(&job.repository_id);
    let mirror = Mirror::open(&cx.git, path, MirrorLimits::default()).await?;
    Ok(Ok(Loaded { job, action, settings, repository, mirror }))
}

/// Waits for the first overview if it is not known yet which branches the job is about, for earlier jobs on branches of the
/// stack, and for those of the organization if they are many. The time of the plan begins with the turn.
async fn await_turn(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let id: JobId = flow.subject_id().parse()?;
    let Some(job) = jobs::find(&cx.store, &id).await? else { return Ok(Outcome::done()) };
    if let Some(wait) = scope::known(cx, &job).await? {
        return Ok(wait);
    }
    let begun = plan::Begun { planning_since: cx.env.clock.now().as_micros() };
    Ok(turn::wait(cx, &job).await?.unwrap_or_else(|| Outcome::done().with_state(&begun)))
}

/// Projects the state of an action to the job's row, and lets the next job on its branches go on.
pub struct Shown(pub Env);

impl Projection for Shown {
    fn project(&self, flow: &FlowStatus) -> WriteSet {
        let mut ws = WriteSet::new();
        let Some(organization) = &flow.organization_id else { return ws };
        let state = match flow.transition {
            Some(Transition::Done) => State::Done,
            Some(Transition::Failed) => State::Failed,
            Some(Transition::Cancelled) => State::Cancelled,
            _ if flow.stage == QUEUED => State::Queued,
            _ => State::Running,
        };
        let rev = ws.scope(Scope::organization(organization));
        let end = if state.is_finished() { flow.status_time.into() } else { Value::Null };
        jobs::set_state(&mut ws, rev, &flow.subject_id, state, &condition(state, flow), end);
        if state.is_finished() {
            foundry_flow::signal(&mut ws, &self.0, &job::ended(&flow.subject_id));
        }
        if state.is_finished() || flow.transition == Some(Transition::Retrying) {
            foundry_flow::signal(&mut ws, &self.0, &job::turn_of_organization(organization.as_str()));
        }
        let has_pushed = [PUSHING, RECORDING].contains(&flow.stage.as_str());
        if has_pushed && matches!(state, State::Failed | State::Cancelled) {
            settle_later(&mut ws, &self.0, &settle::SETTLE, flow);
        }
        ws
    }
}

fn condition(state: State, flow: &FlowStatus) -> Condition {
    let mut condition = foundry_flow::condition(&ACTION, flow);
    match state {
        State::Failed => {
            let next = broker::next_action(&flow.reason).or_else(|| next_action(&flow.reason));
            next.unwrap_or(AGAIN).clone_into(&mut condition.next_action);
            let is_refused = next.is_some() || publishing::is_refusal(&flow.reason);
            if flow.stage == RECORDING || (flow.stage == PUSHING && !is_refused) {
                condition.message.push_str(MAY_HAVE);
                REFRESH.clone_into(&mut condition.next_action);
            }
        }
        State::Cancelled => {
            "CANCELLED".clone_into(&mut condition.reason);
            let (message, next) = match flow.stage.as_str() {
                PUSHING | RECORDING => (CANCELLED_DURING, REFRESH),
                _ => ("cancelled before anything was pushed", ""),
            };
            message.clone_into(&mut condition.message);
            next.clone_into(&mut condition.next_action);
        }
        State::Queued if flow.wait_key.is_some() => {
            let on = if flow.reason == "OVERVIEW_PENDING" { "the first overview" } else { "an earlier job" };
            on.clone_into(&mut condition.waiting_on);
            "none needed: it begins by itself".clone_into(&mut condition.next_action);
        }
        State::Done => condition = Condition { since_time: condition.since_time, ..Condition::default() },
        _ => {}
    }
    condition
}

/// What a user can do about a failure of which nothing else is known.
const AGAIN: &str = "run the action again";
/// What a user can do when a push may have arrived.
const REFRESH: &str = "refresh the repository and look at where the branches are, or undo the job";
/// How a condition says that it is not known whether a push has arrived.
const MAY_HAVE: &str = "; the remote may have the new commits";
const CANCELLED_DURING: &str = "cancelled during the push; the remote may have the new commits";

/// What can be done about the refusals of actions; none for those of publications.
fn next_action(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "RESTACK_CONFLICT" => {
            "rebase the branch by hand or hand it to an agent (`--resolve`), push it, then run the action again"
        }
        "BRANCH_MOVED" => "refresh the repository, look at what was pushed, then run the action again",
        "BRANCH_DELETED" => "make the branch again at the commit that is named, then undo the job again",
        "BRANCH_PROTECTED" => "have the rules of the branch changed at the host, then run the action again",
        "DEFAULT_BRANCH_REFUSED" => "choose another branch: the default branch is never changed",
        "PLAN_OUTDATED" => "look at a new plan, then run the action again",
        "PLAN_TOO_LARGE" => "run the action on one branch after another",
        "OVERVIEW_PENDING" => "wait until the overview of the repository is there, then run the action again",
        "COMMITS_SIGNED" => "rebase and sign the commits by hand, or allow the signatures to be dropped",
        "BRANCH_NOT_AT_REMOTE" | "PARENT_NOT_AT_REMOTE" => {
            "refresh the repository, and choose a branch that is there"
        }
        "STACK_CIRCLE" => "choose a parent that does not stand on the branch",
        "TOO_MANY_BRANCHES" => "run the action on one stack after another",
        "TIP_NOT_KEPT" => "fetch the branch from a clone that still has the commit, and push it by hand",
        "BRANCH_UNRELATED" | "GIT_TOO_LARGE" => "rebase the branch by hand",
        "PUSH_DECLINED" => "do what the host says, then run the action again",
        "PUSH_NOT_FAST_FORWARD" => "have the host allow that commits are replaced, then run the action again",
        "PUSH_SECRET_FOUND" => {
            "take the secret out of the commits by hand and revoke it, then run the action again"
        }
        "PUSH_UNSIGNED" => "the host wants signed commits: rebase the branch by hand, and push it signed",
        "PUSH_WORKFLOW_REFUSED" => "use a credential that may change workflows, then run the action again",
        "PUSH_TOO_LARGE" => {
            "make room at the host, or take large files out of the commits, then run the action again"
        }
        "PUSH_FORBIDDEN" => "give Foundry write access to the repository, then run the action again",
        "PUSH_LFS_OBJECTS_MISSING" => {
            "push the objects of LFS from a clone that has them, then run the action again"
        }
        "REPOSITORY_REMOVED" => "register the repository again",
        "JOB_NOT_UNDOABLE" => "none needed: the job has left nothing at the remote that could be undone",
        "GIT_AUTH_REQUIRED" => "give Foundry access to the repository, then run the action again",
        "GIT_REMOTE_NOT_FOUND" => "check the URL of the repository, then run the action again",
        _ => return None,
    })
}
