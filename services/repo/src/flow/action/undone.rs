//! What an undo is going to push: the tips that its job has recorded.

use std::collections::{HashMap, HashSet};

use foundry_git::CommitId;
use foundry_proto::repo::v1::{JobBranch, JobBranchState, ParentSource};

use super::make::short;
use super::push::named;
use super::{Failed, Loaded, refused};
use crate::context::Context;
use crate::domain::job::{Job, may_have_pushed, unplanned};
use crate::store::branch_parents::{self, Given};
use crate::store::jobs;

/// The branches that a job has pushed, back to where they were before it, if they are where it has brought them.
pub async fn undone(cx: &Context, loaded: &mut Loaded) -> Result<(), Failed> {
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
    let (mut moved, mut deleted) = (Vec::new(), Vec::new());
    let given = branch_parents::sourced(&cx.store, &loaded.repository.repository_id).await?;
    let mut branches = Vec::new();
    // The job was begun with the branches that the request wants.
    let wanted: HashSet<String> = loaded.job.branches.iter().map(|b| b.branch.clone()).collect();
    for b in before.into_iter().filter(|b| may_have_pushed(b) && wanted.contains(&b.branch)) {
        let found = at.get(&b.branch).cloned().unwrap_or_default();
        let mut branch = JobBranch {
            state: JobBranchState::Planned.into(),
            old_commit: b.new_commit.clone(),
            new_commit: b.old_commit.clone(),
            old_parent: b.parent.clone(),
            parent: b.old_parent.clone(),
            old_fork: b.fork.clone(),
            fork: b.old_fork.clone(),
            parent_source: source(given.get(&b.branch), &b.parent).into(),
            given_parent: given.get(&b.branch).map(|given| given.parent.clone()).unwrap_or_default(),
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
            if found.is_empty() {
                deleted.push(format!(
                    "the branch {} was at {} after the job, and was deleted since",
                    b.branch, b.new_commit
                ));
            } else {
                moved.push(format!(
                    "the branch {} was at {} after the job, and is at {found} now",
                    b.branch, b.new_commit
                ));
            }
        } else if !loaded.mirror.has_commit(&CommitId::parse(&b.old_commit)?).await? {
            let text = format!("the mirror does not have {} of {} any more", short(&b.old_commit), b.branch);
            return Err(refused("TIP_NOT_KEPT", text));
        }
        branches.push(branch);
    }
    loaded.job.branches = branches;
    let reason = match (moved.is_empty(), deleted.is_empty()) {
        (true, true) => return Ok(()),
        (true, false) => "BRANCH_DELETED",
        (false, _) => "BRANCH_MOVED",
    };
    moved.extend(deleted);
    let mut text = format!("{}; nothing was changed", named(&moved));
    let others = loaded.job.branches.iter().filter(|b| b.state() == JobBranchState::Planned).count();
    if others > 0 {
        let branches =
            if others == 1 { "1 other branch".to_owned() } else { format!("{others} other branches") };
        text.push_str(&format!("; {branches} can be brought back without it"));
    }
    Err(refused(reason, text))
}

/// Where it is known from that a branch stands on this one before the undo.
fn source(given: Option<&Given>, parent: &str) -> ParentSource {
    match given {
        Some(given) if given.parent == parent => given.source.to_proto(),
        _ => ParentSource::Commits,
    }
}
