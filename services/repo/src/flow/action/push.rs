//! Pushes all branches of a plan at once, each with a lease on where the plan found it. That they are going to be pushed is
//! recorded before, so that a push of unknown outcome is never taken for none.

use foundry_core::Result;
use foundry_flow::{Outcome, StageContext};
use foundry_git::{
    BranchName, BranchPush, CommitId, Mirror, Pushed, PushedAll, Refusal, RemoteTip, RemoteUrl,
};
use foundry_proto::repo::v1::{JobBranch, JobBranchState};
use foundry_store::WriteSet;

use super::{Failed, Loaded, PUSHING, failed, load, refused, stopped};
use crate::broker;
use crate::context::Context;
use crate::domain::publishing::elsewhere;
use crate::flow::pushing;

/// Most branches that a message names.
const MAX_NAMED: usize = 3;

/// The stage. What the remote has already, an earlier attempt has brought there. It runs once more for each branch if the
/// remote cannot do all or nothing.
pub async fn push(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let mut loaded = match load(cx, flow).await? {
        Ok(loaded) => loaded,
        Err(ended) => return Ok(ended),
    };
    if loaded.only_reads() {
        return Ok(Outcome::done());
    }
    if count(&loaded, JobBranchState::Pushing) == 0 {
        if count(&loaded, JobBranchState::Planned) == 0 {
            return Ok(Outcome::done());
        }
        // Of what has been pushed at once, nothing is left to push.
        let most = if count(&loaded, JobBranchState::Pushed) > 0 { 1 } else { usize::MAX };
        intended(&mut loaded.job.branches, most);
        return Ok(Outcome::goto(PUSHING).recording(loaded.recorded()));
    }
    flow.progress("pushing the branches").await;
    let before = loaded.job.branches.clone();
    let remote = broker::remote(cx, &loaded.repository).await?;
    let (mirror, only_ours) = (loaded.mirror.clone(), loaded.makes_commits());
    let pushed = tokio::select! {
        pushed = pushed(&mirror, &remote.url, &mut loaded.job.branches, only_ours) => pushed,
        () = flow.cancellation().cancelled() => return Ok(stopped()),
    };
    if matches!(pushed, Ok(()) | Err(Failed::Refused(..))) {
        // What is not there now was refused together with another one, or is not pushed yet.
        for branch in &mut loaded.job.branches {
            if branch.state() == JobBranchState::Pushing {
                branch.state = JobBranchState::Planned.into();
            }
        }
    }
    if pushed.is_ok() && count(&loaded, JobBranchState::Planned) > 0 {
        intended(&mut loaded.job.branches, 1);
    }
    let mut ws = loaded.recorded();
    audited(&mut ws, &loaded, &flow.flow().user_id, &before);
    if let Err(e) = pushed {
        return failed(cx, &remote, e, ws).await;
    }
    if count(&loaded, JobBranchState::Pushing) > 0 {
        return Ok(Outcome::goto(PUSHING).recording(ws));
    }
    remote.learned(cx, &mut ws, Ok(())).await?;
    Ok(Outcome::done().recording(ws))
}

fn count(loaded: &Loaded, state: JobBranchState) -> usize {
    loaded.job.branches.iter().filter(|b| b.state() == state).count()
}

/// Marks planned branches, parents first, as those of the next push.
fn intended(branches: &mut [JobBranch], most: usize) {
    let planned = branches.iter_mut().filter(|b| b.state() == JobBranchState::Planned);
    planned.take(most).for_each(|b| b.state = JobBranchState::Pushing.into());
}

/// Adds a record for each branch that has arrived since.
pub fn audited(ws: &mut WriteSet, loaded: &Loaded, user: &str, before: &[JobBranch]) {
    let job = &loaded.job;
    for (branch, before) in job.branches.iter().zip(before) {
        if branch.state() != JobBranchState::Pushed || before.state() == JobBranchState::Pushed {
            continue;
        }
        pushing::audited(ws, user, job, branch);
    }
}

/// Pushes the branches that are marked for it; those that are still marked afterwards are not at the remote.
async fn pushed(
    mirror: &Mirror,
    remote: &RemoteUrl,
    branches: &mut [JobBranch],
    only_ours: bool,
) -> Result<(), Failed> {
    if compare(mirror, remote, branches, only_ours).await? {
        return Ok(());
    }
    let todo = intents(branches)?;
    let all: Vec<BranchPush> = todo.iter().map(|(_, push)| push.clone()).collect();
    let done = match all.as_slice() {
        [one] => match mirror.push_branch(remote, &one.branch, &one.commit, one.expected.as_ref()).await? {
            Pushed::Accepted(words) => PushedAll::Accepted(words),
            Pushed::Refused(refusal) => PushedAll::Refused { nth: Some(0), refusal },
        },
        all => mirror.push_all(remote, all).await?,
    };
    match done {
        PushedAll::Accepted(words) => {
            todo.iter().for_each(|(nth, _)| arrived(&mut branches[*nth]));
            if let Some((nth, _)) = todo.first() {
                branches[*nth].remote_message = words;
            }
        }
        PushedAll::NotAtomic => {}
        PushedAll::Refused { nth, refusal } => {
            // Which one, and where it is now.
            if refusal.reason == "BRANCH_MOVED" && compare(mirror, remote, branches, only_ours).await? {
                return Ok(());
            }
            let nth = nth.and_then(|nth| todo.get(nth)).or_else(|| todo.first()).map(|(nth, _)| *nth);
            return Err(declined(nth.map(|nth| &mut branches[nth]), refusal));
        }
    }
    Ok(())
}

/// What is to be pushed at once, with its numbers in the job.
///
/// # Errors
/// When what is stored is no branch or commit.
pub fn intents(branches: &[JobBranch]) -> Result<Vec<(usize, BranchPush)>, Failed> {
    let mut todo = Vec::new();
    for (nth, branch) in branches.iter().enumerate() {
        if branch.state() == JobBranchState::Pushing {
            let push = BranchPush {
                branch: BranchName::parse(&branch.branch).map_err(foundry_core::Error::internal)?,
                commit: CommitId::parse(&branch.new_commit)?,
                expected: Some(CommitId::parse(&branch.old_commit)?),
            };
            todo.push((nth, push));
        }
    }
    Ok(todo)
}

/// Whether an earlier push of the branches that are marked for it has arrived, of all of them.
///
/// # Errors
/// `BRANCH_MOVED` for branches that are elsewhere, `DEFAULT_BRANCH_REFUSED` for one that has become the default branch.
async fn compare(
    mirror: &Mirror,
    remote: &RemoteUrl,
    branches: &mut [JobBranch],
    only_ours: bool,
) -> Result<bool, Failed> {
    let todo = intents(branches)?;
    let names: Vec<BranchName> = todo.iter().map(|(_, push)| push.branch.clone()).collect();
    let tips = mirror.remote_tips(remote, &names).await?;
    let is_moved = |(_, push): &(usize, BranchPush), tip: &RemoteTip| {
        tip.commit != push.expected && tip.commit.as_ref() != Some(&push.commit)
    };
    if todo.iter().zip(&tips).any(|(push, tip)| is_moved(push, tip)) {
        // Somebody may have pushed onto what an earlier attempt has brought there.
        mirror.fetch(remote).await?;
    }
    let found: Vec<Option<CommitId>> = tips.iter().map(|tip| tip.commit.clone()).collect();
    if have_arrived(mirror, branches, (&todo, only_ours), &found).await? {
        return Ok(true);
    }
    let (mut moved, mut default) = (Vec::new(), None);
    for (at, tip) in todo.iter().zip(&tips) {
        let (nth, push) = at;
        let branch = &mut branches[*nth];
        if tip.is_default {
            branch.state = JobBranchState::Refused.into();
            default = Some(branch.branch.clone());
        } else if is_moved(at, tip) {
            branch.state = JobBranchState::Refused.into();
            branch.found_commit = tip.commit.as_ref().map(CommitId::to_string).unwrap_or_default();
            let (expected, found) = (push.expected.as_ref(), tip.commit.as_ref());
            moved.push(elsewhere(
                &branch.branch,
                expected.map(CommitId::as_str),
                found.map(CommitId::as_str),
            ));
        }
    }
    if let Some(name) = default {
        let text = format!("{name} has become the default branch, which is never changed");
        return Err(refused("DEFAULT_BRANCH_REFUSED", text));
    }
    if moved.is_empty() {
        return Ok(false);
    }
    let pushed = branches.iter().filter(|b| b.state() == JobBranchState::Pushed).count();
    let rest = if pushed == 0 { "nothing was pushed" } else { "no further branch was pushed" };
    Err(refused("BRANCH_MOVED", format!("{}; {rest}", named(&moved))))
}

/// The first of some texts, and how many there are besides.
pub fn named(texts: &[String]) -> String {
    let mut text = texts.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join("; ");
    if let Some(more @ 1..) = texts.len().checked_sub(MAX_NAMED) {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

/// Marks the branches that have arrived, by where they were found, and returns whether all have. If the commits are new
/// (`only_ours`), a single branch that has one shows that the push has arrived, whatever became of the others since.
///
/// # Errors
/// When git fails.
pub async fn have_arrived(
    mirror: &Mirror,
    branches: &mut [JobBranch],
    (todo, only_ours): (&[(usize, BranchPush)], bool),
    found: &[Option<CommitId>],
) -> Result<bool, Failed> {
    let mut is_there = false;
    for ((_, push), found) in todo.iter().zip(found) {
        is_there = is_there
            || match found {
                Some(found) if *found == push.commit => true,
                Some(found) if Some(found) != push.expected.as_ref() => {
                    mirror.has_commit(found).await? && mirror.is_ancestor(&push.commit, found).await?
                }
                _ => false,
            };
    }
    let mut all = true;
    for ((nth, push), found) in todo.iter().zip(found) {
        let branch = &mut branches[*nth];
        if found.as_ref() == Some(&push.commit) {
            arrived(branch);
        } else if is_there && only_ours {
            arrived(branch);
            branch.found_commit = found.as_ref().map(CommitId::to_string).unwrap_or_default();
            "somebody has pushed to it since".clone_into(&mut branch.note);
        } else {
            all = false;
        }
    }
    Ok(all)
}

fn arrived(branch: &mut JobBranch) {
    branch.state = JobBranchState::Pushed.into();
}

fn declined(branch: Option<&mut JobBranch>, refusal: Refusal) -> Failed {
    let text = pushing::declined(branch.as_ref().map_or("the push", |b| b.branch.as_str()), &refusal);
    // Whatever the remote has said: the branch is where it was.
    let reason = if refusal.reason == "BRANCH_MOVED" { "PUSH_DECLINED" } else { refusal.reason };
    if let Some(branch) = branch {
        branch.state = JobBranchState::Refused.into();
        branch.remote_message = refusal.words;
    }
    Failed::Refused(reason, text)
}
