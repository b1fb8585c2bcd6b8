//! Pushes all branches of a plan at once, each with a lease on where the plan found it.

use foundry_core::Result;
use foundry_flow::{Outcome, StageContext};
use foundry_git::{
    BranchName, BranchPush, CommitId, Mirror, Pushed, PushedAll, Refusal, RemoteTip, RemoteUrl,
};
use foundry_proto::repo::v1::{JobBranch, JobBranchState};
use foundry_service::{audit_as, with_detail};

use super::{Failed, Loaded, failed, load, refused, stopped};
use crate::broker;
use crate::context::Context;
use crate::domain::publishing::moved;

/// Most characters of the remote's words in a condition.
const MAX_SAID: usize = 300;

/// The stage. What the remote has already, an earlier attempt has brought there.
pub async fn push(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let mut loaded = match load(cx, flow).await? {
        Ok(loaded) => loaded,
        Err(ended) => return Ok(ended),
    };
    let planned = loaded.job.branches.iter().any(|b| b.state() == JobBranchState::Planned);
    if loaded.only_reads() || !planned {
        return Ok(Outcome::done());
    }
    flow.progress("pushing the branches").await;
    let remote = broker::remote(cx, &loaded.repository).await?;
    let mirror = loaded.mirror.clone();
    let pushed = tokio::select! {
        pushed = pushed(&mirror, &remote.url, &mut loaded.job.branches) => pushed,
        () = flow.cancellation().cancelled() => return Ok(stopped()),
    };
    let mut ws = loaded.recorded();
    for branch in loaded.job.branches.iter().filter(|b| b.state() == JobBranchState::Pushed) {
        let job = &loaded.job;
        let record =
            audit_as(&flow.flow().user_id, &job.organization_id, "branch.push", job.job_id.as_str(), "");
        let detail = serde_json::json!({
            "branch": branch.branch, "old": branch.old_commit, "new": branch.new_commit,
        });
        ws.audit(with_detail(record, detail));
    }
    match pushed {
        Ok(()) => {
            remote.learned(cx, &mut ws, Ok(())).await?;
            Ok(Outcome::done().recording(ws))
        }
        Err(Failed::Refused(reason, text)) if any_pushed(&loaded) => {
            // What has arrived is recorded although the job fails.
            super::record::arrived(cx, flow, &loaded, &mut ws).await?;
            Ok(Outcome::fail(reason, text).recording(ws))
        }
        Err(e) => failed(cx, &remote, e, ws).await,
    }
}

fn any_pushed(loaded: &Loaded) -> bool {
    loaded.job.branches.iter().any(|b| b.state() == JobBranchState::Pushed)
}

async fn pushed(mirror: &Mirror, remote: &RemoteUrl, branches: &mut [JobBranch]) -> Result<(), Failed> {
    let mut todo: Vec<(usize, BranchPush)> = Vec::new();
    for (nth, branch) in branches.iter().enumerate() {
        if branch.state() == JobBranchState::Planned {
            let push = BranchPush {
                branch: BranchName::parse(&branch.branch).map_err(foundry_core::Error::internal)?,
                commit: CommitId::parse(&branch.new_commit)?,
                expected: Some(CommitId::parse(&branch.old_commit)?),
            };
            todo.push((nth, push));
        }
    }
    compare(mirror, remote, branches, &mut todo).await?;
    if todo.is_empty() {
        return Ok(());
    }
    let all: Vec<BranchPush> = todo.iter().map(|(_, push)| push.clone()).collect();
    match mirror.push_all(remote, &all).await? {
        PushedAll::Accepted(words) => {
            todo.iter().for_each(|(nth, _)| arrived(&mut branches[*nth]));
            if let Some((nth, _)) = todo.first() {
                branches[*nth].remote_message = words;
            }
        }
        PushedAll::NotAtomic => one_by_one(mirror, remote, branches, &mut todo).await?,
        PushedAll::Refused { nth, refusal } => {
            if refusal.reason == "BRANCH_MOVED" {
                // Which one, and where it is now.
                compare(mirror, remote, branches, &mut todo).await?;
                if todo.is_empty() {
                    return Ok(());
                }
            }
            let nth = nth.and_then(|nth| todo.get(nth)).or_else(|| todo.first()).map(|(nth, _)| *nth);
            return Err(declined(nth.map(|nth| &mut branches[nth]), refusal));
        }
    }
    Ok(())
}

/// Marks what has arrived, and leaves in the list what is where it is expected.
///
/// # Errors
/// `BRANCH_MOVED` for a branch that is elsewhere, `DEFAULT_BRANCH_REFUSED` for one that has become the default branch.
async fn compare(
    mirror: &Mirror,
    remote: &RemoteUrl,
    branches: &mut [JobBranch],
    todo: &mut Vec<(usize, BranchPush)>,
) -> Result<(), Failed> {
    let names: Vec<BranchName> = todo.iter().map(|(_, push)| push.branch.clone()).collect();
    let tips = mirror.remote_tips(remote, &names).await?;
    let (mut left, mut elsewhere) = (Vec::new(), Vec::new());
    for ((nth, push), RemoteTip { commit, is_default }) in todo.drain(..).zip(tips) {
        let branch = &mut branches[nth];
        if commit.as_ref() == Some(&push.commit) {
            arrived(branch);
        } else if is_default {
            let text = format!("{} has become the default branch, which is never changed", branch.branch);
            branch.state = JobBranchState::Refused.into();
            return Err(refused("DEFAULT_BRANCH_REFUSED", text));
        } else if commit == push.expected {
            left.push((nth, push));
        } else {
            branch.state = JobBranchState::Refused.into();
            branch.found_commit = commit.as_ref().map(CommitId::to_string).unwrap_or_default();
            let (expected, found) = (push.expected.as_ref(), commit.as_ref());
            elsewhere.push(
                moved(&branch.branch, expected.map(CommitId::as_str), found.map(CommitId::as_str)).message,
            );
        }
    }
    *todo = left;
    if elsewhere.is_empty() { Ok(()) } else { Err(refused("BRANCH_MOVED", elsewhere.join("; "))) }
}

fn arrived(branch: &mut JobBranch) {
    branch.state = JobBranchState::Pushed.into();
}

/// For a remote that cannot do all or nothing: parents first, up to the first refusal.
async fn one_by_one(
    mirror: &Mirror,
    remote: &RemoteUrl,
    branches: &mut [JobBranch],
    todo: &mut [(usize, BranchPush)],
) -> Result<(), Failed> {
    for (nth, push) in todo {
        let branch = &mut branches[*nth];
        match mirror.push_branch(remote, &push.branch, &push.commit, push.expected.as_ref()).await? {
            Pushed::Accepted(words) => {
                arrived(branch);
                branch.remote_message = words;
            }
            Pushed::Refused(refusal) => return Err(declined(Some(branch), refusal)),
        }
    }
    Ok(())
}

fn declined(branch: Option<&mut JobBranch>, refusal: Refusal) -> Failed {
    let said: String = refusal.words.replace('\n', "; ").chars().take(MAX_SAID).collect();
    let name = branch.as_ref().map_or("the push", |b| b.branch.as_str());
    let text = format!("the remote refused {name}: {said}");
    // Whatever the remote has said: the branch is where it was.
    let reason = if refusal.reason == "BRANCH_MOVED" { "PUSH_DECLINED" } else { refusal.reason };
    if let Some(branch) = branch {
        branch.state = JobBranchState::Refused.into();
        branch.remote_message = refusal.words;
    }
    Failed::Refused(reason, text)
}
