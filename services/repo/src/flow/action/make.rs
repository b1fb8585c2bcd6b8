//! Makes the commits of a plan in the mirror, branch by branch.

use std::collections::HashMap;

use foundry_core::{Timestamp, counted};
use foundry_flow::StageContext;
use foundry_git::{CommitId, GitErrorKind, ReplaySpec, Replayed};
use foundry_proto::repo::v1::{JobBranch, JobBranchState};

use super::push::named;
use super::stack::Listed;
use super::{Failed, Loaded, refused};
use crate::context::Context;

/// Longest path of a conflict in bytes.
const MAX_PATH: usize = 250;

/// Makes the commits of each branch, parents first, with this time, and returns whether all are made. It stops at `until`, after
/// at least one branch. After a conflict nothing is pushed, so the branches above it are left.
pub async fn make(
    cx: &Context,
    flow: &StageContext,
    loaded: &mut Loaded,
    listed: &Listed,
    (time, until): (Timestamp, Timestamp),
) -> Result<bool, Failed> {
    let mut heads: HashMap<String, CommitId> = HashMap::new();
    // Branches of which nothing is left, with what they stand on.
    let mut gone: HashMap<String, String> = HashMap::new();
    let (total, mut made) = (loaded.job.branches.len(), 0);
    for nth in 0..total {
        let Some(branch) = loaded.job.branches.get(nth).cloned() else { continue };
        match branch.state() {
            // From an earlier attempt, or by the plan that was seen.
            JobBranchState::Planned => {
                heads.insert(branch.branch, CommitId::parse(&branch.new_commit)?);
                continue;
            }
            JobBranchState::Pending if !branch.from_commit.is_empty() => {}
            _ => {
                if branch.emptied {
                    gone.insert(branch.branch, branch.parent);
                }
                continue;
            }
        }
        if made > 0 && cx.env.clock.now() >= until {
            return Ok(false);
        }
        flow.progress(format!("{nth} of {total} branches are made")).await;
        let mut parent = branch.parent.as_str();
        while let Some(next) = gone.get(parent) {
            parent = next;
        }
        let onto = heads.get(parent).or_else(|| listed.tip(parent)).cloned();
        let Some(onto) = onto else {
            let text = format!("the remote has no branch {parent}, on which {} stands", branch.branch);
            return Err(refused("PARENT_NOT_AT_REMOTE", text));
        };
        let parent = parent.to_owned();
        match one(loaded, nth, (&parent, &onto), time).await? {
            Some(head) => drop(heads.insert(branch.branch, head)),
            None => drop(gone.insert(branch.branch, parent)),
        }
        made += 1;
    }
    Ok(true)
}

/// Makes the commits of one branch on its parent, and returns where it is then; none if nothing is left of it.
async fn one(
    loaded: &mut Loaded,
    nth: usize,
    (parent, onto): (&str, &CommitId),
    time: Timestamp,
) -> Result<Option<CommitId>, Failed> {
    let Some(branch) = loaded.job.branches.get_mut(nth) else { return Ok(None) };
    let tip = CommitId::parse(&branch.old_commit)?;
    let spec = ReplaySpec {
        from: CommitId::parse(&branch.from_commit)?,
        tip: tip.clone(),
        onto: onto.clone(),
        committer: (loaded.settings.committer_name.clone(), loaded.settings.committer_email.clone()),
        time: time.as_micros() / 1_000_000,
        drop_signatures: loaded.settings.drop_signatures,
    };
    let replayed = match loaded.mirror.replay(&spec).await {
        Err(e) if e.kind() == GitErrorKind::TooLarge => {
            branch.state = JobBranchState::Refused.into();
            return Err(refused(e.reason(), format!("{}: {}", branch.branch, e.message())));
        }
        replayed => replayed?,
    };
    parent.clone_into(&mut branch.parent);
    branch.fork = onto.to_string();
    show(branch, replayed, (&tip, onto))
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
            branch.emptied = true;
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

/// The beginning of a commit's id, for texts.
pub fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
