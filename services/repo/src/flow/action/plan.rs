//! Decides what becomes of each branch, and has the commits made in the mirror. Nothing changes at the remote.
//!
//! The plan is stored on the job. A retry reuses it if no branch has moved, and a run of a plan that its requester has seen
//! pushes exactly the commits of that plan.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use foundry_core::{Result, Timestamp};
use foundry_flow::{Outcome, StageContext};
use foundry_git::{CommitId, RemoteUrl, WorkName};
use foundry_proto::repo::v1::{JobBranch, JobBranchState};
use foundry_store::WriteSet;
use serde::{Deserialize, Serialize};

use super::stack::{self, Listed};
use super::{Failed, Loaded, PLANNING, failed, load, make, refused, stopped, undone};
use crate::broker;
use crate::context::Context;
use crate::domain::job::{Action, Job, Kind, State, unplanned};
use crate::domain::restack::{self, Act, Branch, Impossible, Selection, Step};
use crate::flow::overview;
use crate::store::branch_parents::{self, Source};
use crate::store::{branch_overviews, jobs};

/// Most parents that are taken over from git-spice.
const MAX_IMPORTED: usize = 5_000;
/// How long a plan may take, with all its attempts.
const WITHIN: Duration = Duration::from_secs(30 * 60);
/// How long reading the branches may take. Nothing of it is stored, so a retry would take as long: it fails below the limit
/// of the stage.
const LOOK: Duration = Duration::from_secs(12 * 60);

/// What the attempts of one plan have in common.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Begun {
    /// When the first of them began, in microseconds.
    pub planning_since: i64,
}

/// The stage: fetches, plans, makes the commits, and keeps all old and new tips. A long plan is recorded piece by piece.
pub async fn plan(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let mut loaded = match load(cx, flow).await? {
        Ok(loaded) => loaded,
        Err(ended) => return Ok(ended),
    };
    let now = cx.env.clock.now();
    // Recorded with the turn of the job; a job of an older binary begins now.
    let begun = flow.state::<Begun>().unwrap_or(Begun { planning_since: now.as_micros() });
    let is_over = now.since(Timestamp::from_micros(begun.planning_since)) > WITHIN;
    flow.progress("asking the remote where the branches are").await;
    let remote = broker::remote(cx, &loaded.repository).await?;
    let planned = tokio::select! {
        planned = planned(cx, flow, &mut loaded, &remote), if !is_over => planned,
        () = std::future::ready(()), if is_over => Err(too_large(WITHIN)),
        () = flow.cancellation().cancelled() => return Ok(stopped()),
    };
    match planned {
        Ok(Some(found)) => {
            let mut ws = loaded.recorded();
            ws.merge(found);
            remote.learned(cx, &mut ws, Ok(())).await?;
            Ok(Outcome::done().recording(ws))
        }
        Ok(None) => Ok(Outcome::goto(PLANNING).recording(loaded.recorded()).with_state(&begun)),
        Err(e) => failed(cx, &remote, e, loaded.recorded()).await,
    }
}

fn too_large(after: Duration) -> Failed {
    let minutes = after.as_secs() / 60;
    refused("PLAN_TOO_LARGE", format!("the plan was not ready after {minutes} minutes; nothing was pushed"))
}

/// Makes as much of the plan as fits into one attempt. Returns further writes for the end of the stage, or none if the time
/// of the attempt is up: then the branches so far are stored, and the next attempt makes the others.
async fn planned(
    cx: &Context,
    flow: &StageContext,
    loaded: &mut Loaded,
    remote: &broker::Remote,
) -> Result<Option<WriteSet>, Failed> {
    let begin = cx.env.clock.now();
    loaded.mirror.fetch(&remote.url).await?;
    match loaded.action {
        Action::SyncRepo => return import(cx, loaded, &remote.url).await.map(Some),
        Action::Undo => undone::undone(cx, loaded).await?,
        Action::RegisterExistingBranch => {
            let listed = stack::list(cx, loaded, BTreeSet::new()).await?;
            register(cx, loaded, &listed).await?;
            return Ok(Some(WriteSet::new()));
        }
        _ => {
            let may_change = jobs::may_change(&cx.store, &loaded.job.job_id).await?;
            let listed = stack::list(cx, loaded, may_change).await?;
            let seen = seen(cx, loaded, &listed).await?;
            if !is_planned(loaded, &listed, seen.as_ref()).await? {
                flow.progress("looking at the branches").await;
                let selection = selection(loaded);
                let read = stack::read(cx, flow, loaded, (&listed, &selection));
                let branches = tokio::select! {
                    branches = read => branches?,
                    () = cx.env.clock.sleep(LOOK) => return Err(too_large(LOOK)),
                };
                let steps = steps(loaded, &listed, &branches)?;
                loaded.job.branches = steps.iter().map(|step| shown(step, &listed)).collect();
                loaded.job.planned_from = listed.digest();
            }
            // The commits of a plan that was seen are the same ones if the same person makes them.
            let time = seen.as_ref().map_or(loaded.job.create_time, |plan| plan.create_time);
            let until = begin.plus(cx.plan_share);
            if !make::make(cx, flow, loaded, &listed, (time, until)).await? {
                keep(loaded).await?;
                return Ok(None);
            }
            if let Some(before) = seen {
                same(loaded, &before.branches).await?;
            }
        }
    }
    keep(loaded).await?;
    Ok(Some(WriteSet::new()))
}

/// Keeps the old and new tips of the job.
async fn keep(loaded: &Loaded) -> Result<(), Failed> {
    let parse = |text: &str| (!text.is_empty()).then(|| CommitId::parse(text)).transpose();
    let tips: Vec<_> = loaded
        .job
        .branches
        .iter()
        .map(|b| Ok((parse(&b.old_commit)?, parse(&b.new_commit)?)))
        .collect::<Result<_, foundry_git::GitError>>()?;
    Ok(loaded.mirror.keep_job(&WorkName::parse(loaded.job.job_id.as_str())?, &tips).await?)
}

/// Whether the job has a plan of the branches as they are: from an earlier attempt, or the one that the requester has seen.
async fn is_planned(loaded: &mut Loaded, listed: &Listed, seen: Option<&Job>) -> Result<bool, Failed> {
    let digest = listed.digest();
    if loaded.job.planned_from != digest {
        let Some(seen) = seen.filter(|seen| seen.planned_from == digest && by_the_same(loaded, seen)) else {
            return Ok(false);
        };
        loaded.job.branches.clone_from(&seen.branches);
        loaded.job.planned_from = digest;
    }
    for branch in loaded.job.branches.iter().filter(|b| b.state() == JobBranchState::Planned) {
        // The mirror may have been made again since.
        if !loaded.mirror.has_commit(&CommitId::parse(&branch.new_commit)?).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether both jobs make commits of the same person.
fn by_the_same(loaded: &Loaded, other: &Job) -> bool {
    let (now, then) = (&loaded.settings, &other.kind);
    matches!(then, Kind::Action(_, then)
        if (&then.committer_name, &then.committer_email) == (&now.committer_name, &now.committer_email))
}

/// Takes over the parents that git-spice has recorded, where no user has given one.
async fn import(cx: &Context, loaded: &Loaded, remote: &RemoteUrl) -> Result<WriteSet, Failed> {
    let id = &loaded.repository.repository_id;
    let found = loaded.mirror.spice_parents(remote).await?;
    let given = branch_parents::given_by_users(&cx.store, id).await?;
    let known = branch_parents::all(&cx.store, id).await?;
    let there = loaded.mirror.branches().await?.items;
    let there: BTreeSet<String> = there.into_iter().map(|b| b.name.to_string()).collect();
    let found: Vec<_> = found.iter().filter(|(branch, _)| there.contains(branch.as_str())).collect();
    let mut ws = WriteSet::new();
    // What git-spice says no more, or of a branch that is gone, was imported before.
    for branch in known.keys().filter(|name| !given.contains(name)) {
        if !found.iter().any(|(name, _)| name.as_str() == branch) {
            branch_parents::forget_imported(&mut ws, id, branch);
        }
    }
    for (branch, parent) in found.into_iter().take(MAX_IMPORTED) {
        let is_given = given.iter().any(|name| name == branch.as_str());
        if !is_given && known.get(branch.as_str()).map(String::as_str) != Some(parent.as_str()) {
            branch_parents::put(&mut ws, id, branch.as_str(), parent.as_str(), Source::Spice);
        }
    }
    overview::want(cx, &mut ws, id);
    Ok(ws)
}

/// The plan that the requester has seen, if one is named: it must be of the same request, and the branches must be where it
/// found them.
async fn seen(cx: &Context, loaded: &Loaded, listed: &Listed) -> Result<Option<Job>, Failed> {
    if loaded.settings.plan_job_id.is_empty() {
        return Ok(None);
    }
    let id = loaded.settings.plan_job_id.parse()?;
    let Some(plan) = jobs::find(&cx.store, &id).await? else {
        return Err(refused("PLAN_OUTDATED", "the plan was removed since"));
    };
    let now = &loaded.settings;
    let is_same = matches!(&plan.kind, Kind::Action(action, then) if *action == loaded.action
        && then.plan_only
        && (&then.branch, &then.parent, then.drop_signatures) == (&now.branch, &now.parent, now.drop_signatures));
    if !is_same || plan.state != State::Done {
        return Err(refused("PLAN_OUTDATED", format!("the job {id} is no plan of this action")));
    }
    let is_elsewhere =
        |b: &&JobBranch| listed.tip(&b.branch).map_or("", CommitId::as_str) != b.old_commit.as_str();
    let moved: Vec<&str> = plan.branches.iter().filter(is_elsewhere).map(|b| b.branch.as_str()).collect();
    if moved.is_empty() {
        return Ok(Some(plan));
    }
    let text = format!("somebody has pushed since the plan was made, to {}", moved.join(", "));
    Err(refused("PLAN_OUTDATED", text))
}

/// What is going to be pushed must be what the requester has seen: the same branches on the same parents with the same files.
async fn same(loaded: &Loaded, before: &[JobBranch]) -> Result<(), Failed> {
    let shape = |b: &JobBranch| {
        (b.branch.clone(), b.old_commit.clone(), b.parent.clone(), b.state, b.commit_count, b.note.clone())
    };
    let now = &loaded.job.branches;
    let mut is_same = now.iter().map(shape).eq(before.iter().map(shape));
    for (now, before) in now.iter().zip(before).filter(|(now, _)| !now.new_commit.is_empty()) {
        let before = CommitId::parse(&before.new_commit);
        is_same = is_same
            && match before {
                Ok(before) if loaded.mirror.has_commit(&before).await? => {
                    let now = CommitId::parse(&now.new_commit)?;
                    loaded.mirror.tree_of(&now).await? == loaded.mirror.tree_of(&before).await?
                }
                _ => false,
            };
    }
    if is_same {
        return Ok(());
    }
    let text = "the branches that they stand on have changed since the plan was made";
    Err(refused("PLAN_OUTDATED", text))
}

fn selection(loaded: &Loaded) -> Selection {
    let branch = loaded.settings.branch.clone();
    match loaded.action {
        Action::RestackRepo => Selection::Stacks,
        Action::RebaseBranch => Selection::One(branch),
        _ => Selection::Subtree(branch),
    }
}

fn steps(loaded: &Loaded, listed: &Listed, branches: &[Branch]) -> Result<Vec<Step>, Failed> {
    let (branch, parent) = (&loaded.settings.branch, &loaded.settings.parent);
    let to = Some(parent.as_str()).filter(|to| !to.is_empty());
    restack::plan(&listed.base, branches, &selection(loaded), to).map_err(|why| {
        let text = match why {
            Impossible::Absent => format!("the remote has no branch {branch}"),
            Impossible::ParentAbsent => format!("the remote has no branch {parent}"),
            Impossible::Circle => format!("{parent} stands on {branch} itself"),
            Impossible::Base => format!("{branch} is the default branch, which is never changed"),
        };
        Failed::Refused(why.reason(), text)
    })
}

/// A branch of the plan before its commits are made.
fn shown(step: &Step, listed: &Listed) -> JobBranch {
    let (given_parent, source) = listed.source(&step.branch, &step.old_parent);
    let mut branch = JobBranch {
        old_commit: step.tip.to_string(),
        old_parent: step.old_parent.clone(),
        old_fork: step.old_fork.as_ref().map(CommitId::to_string).unwrap_or_default(),
        parent_source: source.into(),
        given_parent,
        ..unplanned(&step.branch)
    };
    let note = match &step.act {
        Act::Replay { parent, from } => {
            branch.parent.clone_from(parent);
            branch.from_commit = from.to_string();
            return branch;
        }
        Act::Merged(into) => format!("it is merged into {into}"),
        Act::Unrelated => "it has no commit in common with the default branch".to_owned(),
        Act::Kept(why) => why.clone(),
    };
    branch.state = JobBranchState::Skipped.into();
    branch.note = note;
    branch
}

/// The branch must be at the remote now, and its parent, which must not stand on it.
async fn register(cx: &Context, loaded: &mut Loaded, listed: &Listed) -> Result<(), Failed> {
    let (name, parent) = (&loaded.settings.branch, &loaded.settings.parent);
    for (wanted, why) in [(name, Impossible::Absent), (parent, Impossible::ParentAbsent)] {
        if !wanted.is_empty() && listed.tip(wanted).is_none() {
            return Err(Failed::Refused(why.reason(), format!("the remote has no branch {wanted}")));
        }
    }
    let shown = branch_overviews::parents(&cx.store, &loaded.repository.repository_id).await?;
    let old_parent = shown.get(name).cloned().unwrap_or_default();
    let (given_parent, source) = listed.source(name, &old_parent);
    // What was given wins over what the overview shows, also where that is older.
    let known: HashMap<String, String> = shown.into_iter().chain(listed.given()).collect();
    if !parent.is_empty() && restack::is_circle(&known, name, parent) {
        let why = Impossible::Circle;
        return Err(Failed::Refused(why.reason(), format!("{parent} stands on {name} itself")));
    }
    let branch = JobBranch {
        state: JobBranchState::Skipped.into(),
        old_commit: listed.tip(name).map(CommitId::to_string).unwrap_or_default(),
        parent: parent.clone(),
        old_parent,
        parent_source: source.into(),
        given_parent,
        note: "it is at the remote".to_owned(),
        ..unplanned(name)
    };
    loaded.job.branches = vec![branch];
    Ok(())
}
