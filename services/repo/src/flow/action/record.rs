//! Makes mirror, branches, works and parents know what the remote has.

use foundry_core::{RepositoryId, Result};
use foundry_flow::{Outcome, StageContext};
use foundry_git::{BranchName, CommitId, CommitSummary};
use foundry_proto::common::v1::Publication;
use foundry_proto::repo::v1::{JobBranch, JobBranchState, ParentSource};
use foundry_store::{Scope, WriteSet};

use super::{Loaded, load};
use crate::context::Context;
use crate::domain::job::Action;
use crate::domain::stack::Placed;
use crate::flow::{publish, published, sync};
use crate::store::branch_parents::{self, Given, Source};
use crate::store::branches::{self, BranchRow};
use crate::store::{branch_places, jobs, publications, works};

/// Records where the branches are now, for works that were published there and for the parents of the stack.
pub async fn record(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let loaded = match load(cx, flow).await? {
        Ok(loaded) => loaded,
        Err(ended) => return Ok(ended),
    };
    if loaded.settings.plan_only {
        return Ok(Outcome::done());
    }
    let mut ws = WriteSet::new();
    arrived(cx, flow, &loaded, &mut ws).await?;
    Ok(Outcome::done().recording(ws))
}

/// Adds what the remote has since the job, and has the repository synchronized.
///
/// # Errors
/// When git or the database fails.
pub async fn arrived(cx: &Context, flow: &StageContext, loaded: &Loaded, ws: &mut WriteSet) -> Result<()> {
    let Loaded { job, repository, mirror, .. } = loaded;
    let mut moved = Vec::new();
    for branch in &job.branches {
        let commit = match (branch.state(), loaded.action) {
            // What somebody has pushed to since is synchronized.
            (JobBranchState::Pushed, _) if !branch.found_commit.is_empty() => continue,
            (JobBranchState::Pushed, _) => &branch.new_commit,
            (_, Action::RegisterExistingBranch) => &branch.old_commit,
            _ => continue,
        };
        moved.push((BranchName::parse(&branch.branch)?, CommitId::parse(commit)?));
    }
    mirror.record_branches(&moved).await?;
    let commits: Vec<CommitId> = moved.iter().map(|(_, commit)| commit.clone()).collect();
    let summaries = mirror.summaries(&commits).await?;
    for (branch, commit) in &moved {
        let CommitSummary { subject, time, .. } = summaries.get(commit).cloned().unwrap_or_default();
        let row =
            BranchRow { name: branch.to_string(), commit_id: commit.to_string(), commit_time: time, subject };
        branches::put(ws, &repository.repository_id, &row);
    }
    parents(cx, loaded, ws).await?;
    publications(cx, loaded, ws).await?;
    let on_behalf = (flow.flow().user_id.as_str(), flow.traceparent());
    sync::schedule(cx, ws, repository, on_behalf).await
}

/// The parent that the request gives to its branch, also where nothing was to be pushed for it; and for branches that have been
/// given one, the new one, by the same source. An undo brings back what was given before its job.
async fn parents(cx: &Context, loaded: &Loaded, ws: &mut WriteSet) -> Result<()> {
    let id = &loaded.repository.repository_id;
    let given = branch_parents::sourced(&cx.store, id).await?;
    let undone = undone(cx, loaded).await?;
    for branch in &loaded.job.branches {
        let is_pushed = branch.state() == JobBranchState::Pushed;
        let is_there = is_pushed || branch.state() == JobBranchState::Skipped;
        placed(loaded, branch, ws);
        if let Some(before) = undone.iter().find(|b| b.branch == branch.branch).filter(|_| is_there) {
            restored(ws, id, before, given.get(&branch.branch));
            continue;
        }
        let requested = &loaded.settings.parent;
        if branch.branch == loaded.settings.branch && !requested.is_empty() && is_there {
            branch_parents::put(ws, id, &branch.branch, requested, Source::User);
            continue;
        }
        if let Some(given) = given.get(&branch.branch).filter(|given| given.parent != branch.parent)
            && is_pushed
            && !branch.parent.is_empty()
        {
            branch_parents::put(ws, id, &branch.branch, &branch.parent, given.source);
        }
    }
    Ok(())
}

/// The branches of the job that is undone, as it has left them; none if the job is no undo.
async fn undone(cx: &Context, loaded: &Loaded) -> Result<Vec<JobBranch>> {
    if loaded.action != Action::Undo {
        return Ok(Vec::new());
    }
    let undone = jobs::find(&cx.store, &loaded.settings.undone_job_id.parse()?).await?;
    Ok(undone.map(|job| job.branches).unwrap_or_default())
}

/// Gives a branch the parent back that was given to it before its job, unless somebody has given it another one since.
fn restored(ws: &mut WriteSet, id: &RepositoryId, before: &JobBranch, given: Option<&Given>) {
    let is_known = before.parent_source() != ParentSource::Unspecified;
    if !is_known || given.is_some_and(|given| given.parent != before.parent) {
        return;
    }
    if before.given_parent.is_empty() {
        branch_parents::remove(ws, id, &before.branch);
        return;
    }
    let source = match before.parent_source() {
        ParentSource::GitSpice => Source::Spice,
        _ => Source::User,
    };
    branch_parents::put(ws, id, &before.branch, &before.given_parent, source);
}

/// Where the job has put a branch: its commits alone do not show that once the parent is pushed to by force.
fn placed(loaded: &Loaded, branch: &JobBranch, ws: &mut WriteSet) {
    let head = match branch.state() {
        JobBranchState::Pushed if branch.found_commit.is_empty() => &branch.new_commit,
        JobBranchState::Skipped => &branch.old_commit,
        _ => return,
    };
    if branch.parent.is_empty() || branch.fork.is_empty() {
        return;
    }
    let (head, parent, fork) = (head.clone(), branch.parent.clone(), branch.fork.clone());
    let id = &loaded.repository.repository_id;
    branch_places::put(ws, id, &branch.branch, &Placed { head, parent, fork });
}

/// Where works were published, the branches have other commits of the same changes now: later work continues these.
async fn publications(cx: &Context, loaded: &Loaded, ws: &mut WriteSet) -> Result<()> {
    let rev = ws.scope(Scope::organization(&loaded.job.organization_id));
    let moved = |publication: &Publication| {
        let mut branches = loaded.job.branches.iter();
        branches.find(|b| {
            b.state() == JobBranchState::Pushed
                && b.branch == publication.branch
                && b.old_commit == publication.commit
        })
    };
    let id = &loaded.repository.repository_id;
    for (task, publication) in publications::of_repository(&cx.store, id).await? {
        let Some(moved) = moved(&publication) else { continue };
        let publication = Publication { commit: moved.new_commit.clone(), ..publication };
        publications::put(ws, (&task, id), &publication);
    }
    for mut work in works::published(&cx.store, id).await? {
        let Some(publication) = work.publication.clone() else { continue };
        let Some(moved) = moved(&publication) else { continue };
        let mut publication = Publication { commit: moved.new_commit.clone(), ..publication };
        publication.work_tree =
            published::work_tree(&loaded.mirror, &publication.work_commit, &publication.commit).await?;
        let head = work.readable_commit()?;
        if let Ok(count) = publish::commits_since(&loaded.mirror, Some(&publication), &head).await {
            publication.commits_since = count;
        }
        work.publication = Some(publication);
        works::save(ws, rev, &work);
    }
    Ok(())
}
