//! Decides what becomes of each branch, and makes the commits in the mirror. Nothing changes at the remote.

use std::collections::{BTreeSet, HashMap};

use foundry_core::{Result, counted};
use foundry_flow::{Outcome, StageContext};
use foundry_git::{CommitId, GitErrorKind, RemoteUrl, ReplaySpec, Replayed, WorkName};
use foundry_proto::repo::v1::{JobBranch, JobBranchState};
use foundry_store::WriteSet;

use super::push::named;
use super::stack::{self, Stack};
use super::{Failed, Loaded, failed, load, refused, stopped};
use crate::broker;
use crate::context::Context;
use crate::domain::job::{Action, Job, Kind, State, may_have_pushed, unplanned};
use crate::domain::publishing::elsewhere;
use crate::domain::restack::{self, Act, Impossible, Selection, Step};
use crate::flow::overview;
use crate::store::branch_parents::{self, Source};
use crate::store::jobs;

/// Most parents that are taken over from git-spice.
const MAX_IMPORTED: usize = 5_000;

/// Longest path of a conflict in bytes.
const MAX_PATH: usize = 250;

/// The stage: fetches, plans, makes the commits, and keeps all old and new tips.
pub async fn plan(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let mut loaded = match load(cx, flow).await? {
        Ok(loaded) => loaded,
        Err(ended) => return Ok(ended),
    };
    flow.progress("asking the remote where the branches are").await;
    let remote = broker::remote(cx, &loaded.repository).await?;
    let planned = tokio::select! {
        planned = planned(cx, flow, &mut loaded, &remote) => planned,
        () = flow.cancellation().cancelled() => return Ok(stopped()),
    };
    match planned {
        Ok(found) => {
            let mut ws = loaded.recorded();
            ws.merge(found);
            remote.learned(cx, &mut ws, Ok(())).await?;
            Ok(Outcome::done().recording(ws))
        }
        Err(e) => failed(cx, &remote, e, loaded.recorded()).await,
    }
}

async fn planned(
    cx: &Context,
    flow: &StageContext,
    loaded: &mut Loaded,
    remote: &broker::Remote,
) -> Result<WriteSet, Failed> {
    loaded.mirror.fetch(&remote.url).await?;
    if loaded.action == Action::SyncRepo {
        return import(cx, loaded, &remote.url).await;
    }
    if loaded.action == Action::Undo {
        undone(cx, loaded).await?;
    } else {
        let may_change = match loaded.action {
            Action::RegisterExistingBranch => BTreeSet::new(),
            _ => jobs::may_change(&cx.store, &loaded.job.job_id).await?,
        };
        let stack = stack::read(cx, &loaded.repository, &loaded.mirror, &may_change).await?;
        if loaded.action == Action::RegisterExistingBranch {
            return register(loaded, &stack).map(|()| WriteSet::new());
        }
        let before = seen(cx, loaded, &stack).await?;
        let steps = steps(loaded, &stack)?;
        make(flow, loaded, &stack, steps).await?;
        if let Some(before) = before {
            same(loaded, &before).await?;
        }
    }
    let parse = |text: &str| (!text.is_empty()).then(|| CommitId::parse(text)).transpose();
    let tips: Vec<_> = loaded
        .job
        .branches
        .iter()
        .map(|b| Ok((parse(&b.old_commit)?, parse(&b.new_commit)?)))
        .collect::<Result<_, foundry_git::GitError>>()?;
    loaded.mirror.keep_job(&WorkName::parse(loaded.job.job_id.as_str())?, &tips).await?;
    Ok(WriteSet::new())
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
            branch_parents::remove(&mut ws, id, branch);
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
async fn seen(cx: &Context, loaded: &Loaded, stack: &Stack) -> Result<Option<Vec<JobBranch>>, Failed> {
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
        |b: &&JobBranch| stack.tip(&b.branch).map_or("", CommitId::as_str) != b.old_commit.as_str();
    let moved: Vec<&str> = plan.branches.iter().filter(is_elsewhere).map(|b| b.branch.as_str()).collect();
    if moved.is_empty() {
        return Ok(Some(plan.branches));
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

fn steps(loaded: &Loaded, stack: &Stack) -> Result<Vec<Step>, Failed> {
    let branch = loaded.settings.branch.clone();
    let selection = match loaded.action {
        Action::RestackRepo => Selection::Stacks,
        Action::RebaseBranch => Selection::One(branch.clone()),
        _ => Selection::Subtree(branch.clone()),
    };
    let to = Some(loaded.settings.parent.as_str()).filter(|to| !to.is_empty());
    restack::plan(&stack.base, &stack.branches, &selection, to).map_err(|why| {
        let parent = &loaded.settings.parent;
        let text = match why {
            Impossible::Absent => format!("the remote has no branch {branch}"),
            Impossible::ParentAbsent => format!("the remote has no branch {parent}"),
            Impossible::Circle => format!("{parent} stands on {branch} itself"),
            Impossible::Base => format!("{branch} is the default branch, which is never changed"),
        };
        Failed::Refused(why.reason(), text)
    })
}

/// Makes the commits of each branch, parents first. After a conflict nothing is pushed, so the branches above it are left.
async fn make(
    flow: &StageContext,
    loaded: &mut Loaded,
    stack: &Stack,
    steps: Vec<Step>,
) -> Result<(), Failed> {
    let mut heads: HashMap<String, CommitId> = HashMap::new();
    // Branches of which nothing is left, with what they stand on.
    let mut gone: HashMap<String, String> = HashMap::new();
    let total = steps.len();
    loaded.job.branches = steps.iter().map(shown).collect();
    for (nth, step) in steps.into_iter().enumerate() {
        flow.progress(format!("{nth} of {total} branches are made")).await;
        let Act::Replay { parent, from } = step.act else { continue };
        let mut parent = parent.as_str();
        while let Some(next) = gone.get(parent) {
            parent = next;
        }
        let parent = parent.to_owned();
        let onto = heads.get(&parent).or_else(|| stack.tip(&parent)).cloned();
        let Some(onto) = onto else {
            let text = format!("the remote has no branch {parent}, on which {} stands", step.branch);
            return Err(refused("PARENT_NOT_AT_REMOTE", text));
        };
        let spec = ReplaySpec {
            from,
            tip: step.tip.clone(),
            onto: onto.clone(),
            committer: (loaded.settings.committer_name.clone(), loaded.settings.committer_email.clone()),
            time: loaded.job.create_time.as_micros() / 1_000_000,
            drop_signatures: loaded.settings.drop_signatures,
        };
        let Some(branch) = loaded.job.branches.get_mut(nth) else { continue };
        let replayed = match loaded.mirror.replay(&spec).await {
            Err(e) if e.kind() == GitErrorKind::TooLarge => {
                branch.state = JobBranchState::Refused.into();
                return Err(refused(e.reason(), format!("{}: {}", branch.branch, e.message())));
            }
            replayed => replayed?,
        };
        branch.parent.clone_from(&parent);
        match show(branch, replayed, (&step.tip, &onto))? {
            Some(head) => drop(heads.insert(step.branch, head)),
            None => drop(gone.insert(step.branch, parent)),
        }
    }
    Ok(())
}

/// Shows what has become of a branch, and returns where it is then; none if nothing is left of it.
fn show(
    branch: &mut JobBranch,
    replayed: Replayed,
    (old, onto): (&CommitId, &CommitId),
) -> Result<Option<CommitId>, Failed> {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    match replayed {
        Replayed::Done { tip, made: 0, dropped } if dropped > 0 && tip == *onto => {
            branch.state = JobBranchState::Skipped.into();
            branch.note = format!("everything of it is in {} already", branch.parent);
            Ok(None)
        }
        Replayed::Done { tip, .. } if tip == *old => {
            branch.state = JobBranchState::Skipped.into();
            "it is in its place".clone_into(&mut branch.note);
            Ok(Some(tip))
        }
        Replayed::Done { tip, made, dropped } => {
            branch.state = JobBranchState::Planned.into();
            branch.new_commit = tip.to_string();
            branch.rewrites = true;
            branch.commit_count = count(made);
            if dropped > 0 {
                let dropped = counted(count(dropped), "commit");
                branch.note = format!("{dropped} left out, since {} has the changes", branch.parent);
            }
            Ok(Some(tip))
        }
        Replayed::Conflict { commit, count: number, files } => {
            let files: Vec<String> = files.iter().map(|file| cut(&file.to_string())).collect();
            let text = format!(
                "{}: the commit {} does not apply to {}; {} in conflict: {}; nothing was pushed",
                branch.branch,
                short(commit.as_str()),
                branch.parent,
                counted(count(number), "file"),
                named(&files)
            );
            branch.state = JobBranchState::Conflict.into();
            branch.conflict_commit = commit.to_string();
            branch.conflict_files = files;
            Err(refused("RESTACK_CONFLICT", text))
        }
        Replayed::Signed(commit) => {
            branch.state = JobBranchState::Refused.into();
            let text = format!(
                "{}: the commit {} is signed, and would lose its signature; nothing was pushed",
                branch.branch,
                short(commit.as_str())
            );
            Err(refused("COMMITS_SIGNED", text))
        }
    }
}

/// The end of a path that is too long for a watch.
fn cut(path: &str) -> String {
    let mut from = path.len().saturating_sub(MAX_PATH);
    while !path.is_char_boundary(from) {
        from += 1;
    }
    if from == 0 { path.to_owned() } else { format!("…{}", &path[from..]) }
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// A branch of the plan before its commits are made.
fn shown(step: &Step) -> JobBranch {
    let mut branch = JobBranch {
        old_commit: step.tip.to_string(),
        old_parent: step.old_parent.clone(),
        ..unplanned(&step.branch)
    };
    match &step.act {
        Act::Replay { parent, .. } => branch.parent.clone_from(parent),
        Act::Merged(into) => {
            branch.state = JobBranchState::Skipped.into();
            branch.note = format!("it is merged into {into}");
        }
        Act::Unrelated => {
            branch.state = JobBranchState::Skipped.into();
            "it has no commit in common with the default branch".clone_into(&mut branch.note);
        }
    }
    branch
}

/// The branch must be at the remote now, and its parent.
fn register(loaded: &mut Loaded, stack: &Stack) -> Result<(), Failed> {
    let (name, parent) = (&loaded.settings.branch, &loaded.settings.parent);
    for (wanted, why) in [(name, Impossible::Absent), (parent, Impossible::ParentAbsent)] {
        if !wanted.is_empty() && stack.tip(wanted).is_none() {
            return Err(Failed::Refused(why.reason(), format!("the remote has no branch {wanted}")));
        }
    }
    let tip = stack.tip(name).map(CommitId::to_string).unwrap_or_default();
    let branch = JobBranch {
        state: JobBranchState::Skipped.into(),
        old_commit: tip,
        parent: parent.clone(),
        note: "it is at the remote".to_owned(),
        ..unplanned(name)
    };
    loaded.job.branches = vec![branch];
    Ok(())
}

/// The branches that a job has pushed, back to where they were before it, if they are where it has brought them.
async fn undone(cx: &Context, loaded: &mut Loaded) -> Result<(), Failed> {
    let id = loaded.settings.undone_job_id.parse()?;
    let Some(Job { branches: before, .. }) = jobs::find(&cx.store, &id).await? else {
        let text = "the job that is to be undone was removed since".to_owned();
        return Err(refused("JOB_NOT_UNDOABLE", text));
    };
    let at: HashMap<String, String> = loaded
        .mirror
        .branches()
        .await?
        .items
        .into_iter()
        .map(|b| (b.name.to_string(), b.commit.to_string()))
        .collect();
    let mut refusals = Vec::new();
    let mut branches = Vec::new();
    for b in before.into_iter().filter(may_have_pushed) {
        let found = at.get(&b.branch).cloned().unwrap_or_default();
        let mut branch = JobBranch {
            state: JobBranchState::Planned.into(),
            old_commit: b.new_commit.clone(),
            new_commit: b.old_commit.clone(),
            old_parent: b.parent.clone(),
            parent: b.old_parent.clone(),
            rewrites: true,
            ..unplanned(&b.branch)
        };
        if found == b.old_commit {
            branch.state = JobBranchState::Skipped.into();
            branch.old_commit.clone_from(&found);
            "it is where it was before the job".clone_into(&mut branch.note);
        } else if found != b.new_commit {
            branch.state = JobBranchState::Refused.into();
            branch.found_commit.clone_from(&found);
            let place = |commit: &'_ str| Some(commit.to_owned()).filter(|c| !c.is_empty());
            let (expected, found) = (place(&b.new_commit), place(&found));
            refusals.push(elsewhere(&b.branch, expected.as_deref(), found.as_deref()));
        } else if !loaded.mirror.has_commit(&CommitId::parse(&b.old_commit)?).await? {
            let text = format!("the mirror does not have {} of {} any more", short(&b.old_commit), b.branch);
            return Err(refused("TIP_NOT_KEPT", text));
        }
        branches.push(branch);
    }
    loaded.job.branches = branches;
    if refusals.is_empty() {
        return Ok(());
    }
    let text = format!("somebody has pushed since the job: {}; nothing was changed", named(&refusals));
    Err(refused("BRANCH_MOVED", text))
}
