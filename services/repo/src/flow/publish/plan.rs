//! What a publication is going to push, and why it must not.

use foundry_core::Result;
use foundry_flow::{Outcome, StageContext};
use foundry_git::{CommitId, PublishSpec, Publishable, RemoteUrl, WorkName};
use foundry_proto::repo::v1::{JobBranch, JobBranchState, JobCommit};

use super::{Loaded, failed, lfs, load, with_branch};
use crate::broker;
use crate::context::Context;
use crate::domain::job;
use crate::domain::publishing::{self, Branch, refused};
use crate::domain::work;
use crate::flow::pushing::{Failed, stopped};
use crate::flow::turn;
use crate::store::{branches, clones, jobs};

/// The stage: makes the commits, and decides whether they may be pushed to where the branch is now.
pub async fn plan(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let loaded = match load(cx, flow).await? {
        Ok(loaded) => loaded,
        Err(ended) => return Ok(ended),
    };
    if let Some(waits) = turn::again(cx, &loaded.job).await? {
        return Ok(waits);
    }
    flow.progress("asking the remote where the branch is").await;
    let remote = broker::remote(cx, &loaded.repository).await?;
    let planned = tokio::select! {
        planned = planned(cx, &loaded, &remote.url) => planned,
        () = flow.cancellation().cancelled() => return Ok(stopped()),
    };
    match planned {
        Ok(Ok(Planned { tip, new, refusals })) => {
            let Loaded { job, publish, mut planned, work, before, .. } = loaded;
            planned.state = JobBranchState::Planned.into();
            planned.old_commit = tip.unwrap_or_default();
            let squashed = new.squashed;
            show_plan(&mut planned, new);
            planned.note = publishing::note(&publish, before.as_ref(), (&planned, squashed));
            if work.state == work::State::Importing {
                planned.note = publishing::without_newest(&planned.note);
            }
            let was_single = before.is_some_and(|before| before.squash) && !publish.keep_commits;
            planned.single_commit = squashed || (was_single && planned.old_commit == planned.new_commit);
            planned.work_commit = work.head_commit;
            planned.refusals = refusals.iter().map(publishing::Refused::shown).collect();
            let mut ws = with_branch(&job, &planned);
            remote.learned(cx, &mut ws, Ok(())).await?;
            Ok(Outcome::done().recording(ws))
        }
        Ok(Err((refused, found))) => {
            let Loaded { job, mut planned, .. } = loaded;
            planned.state = JobBranchState::Refused.into();
            planned.found_commit = found.unwrap_or_default();
            Ok(Outcome::fail(refused.reason, refused.message).recording(with_branch(&job, &planned)))
        }
        Err(e) => failed(cx, &remote, e).await,
    }
}

type Refusal = (publishing::Refused, Option<String>);

/// A push that nothing at the remote stands against.
struct Planned {
    /// Where the remote has the branch.
    tip: Option<String>,
    new: Publishable,
    /// Why it would be refused all the same; only for a plan.
    refusals: Vec<publishing::Refused>,
}

async fn planned(
    cx: &Context,
    loaded: &Loaded,
    remote: &RemoteUrl,
) -> Result<std::result::Result<Planned, Refusal>, Failed> {
    let Loaded { job, publish, work, before, repository, branch, mirror, .. } = loaded;
    let before = before.as_ref();
    let name = branch.as_str();
    let remote_tip = mirror.remote_tip(remote, branch).await?;
    let tip = remote_tip.commit.as_ref().map(CommitId::as_str);
    let recorded = branches::find(&cx.store, &repository.repository_id, name).await?.map(|b| b.commit_id);
    let (tip_of, is_ours) = made_of(cx, loaded, tip).await?;
    let known_default = remote_tip.is_default || name == repository.default_branch;
    let known = Branch {
        name,
        tip,
        recorded: recorded.as_deref(),
        is_default: known_default,
        is_owned: before.is_some() || is_ours,
        is_worked_on: work.works_on(name),
        is_ours,
        remakes: publish.force,
        is_named: !publish.to_branch.is_empty(),
        seen: Some(publish.expected_commit.as_str()).filter(|c| !c.is_empty()),
        // A plan is how the requester sees it.
        replaces: publish.force && !publish.plan_only,
    };
    if let Some(refused) = refused(known) {
        return Ok(Err((refused, tip.map(str::to_owned))));
    }
    if !work.has_changes() {
        let refused = publishing::Refused {
            reason: "NOTHING_TO_PUBLISH",
            message: "the work of the task has no changes".to_owned(),
        };
        return Ok(Err((refused, None)));
    }
    // Newer work, or another task, may have arrived since the request.
    let mut refusals = refusals(cx, loaded).await?;
    if let Some(refused) = refusals.first().filter(|_| !publish.plan_only) {
        return Ok(Err((refused.clone(), None)));
    }
    let merged = match work.merged_from.as_slice() {
        [one] => Some(CommitId::parse(&one.commit)?),
        _ => None,
    };
    let spec = PublishSpec {
        base: CommitId::parse(&work.base_commit)?,
        head: CommitId::parse(&work.head_commit)?,
        merged,
        tip: remote_tip.commit.clone(),
        tip_of: tip_of.map(|c| CommitId::parse(&c)).transpose()?,
        author: (publish.author_name.clone(), publish.author_email.clone()),
        message: job::commit_message(publish),
        squash: publishing::squashes(publish, before),
        force: publish.force,
    };
    let new = match mirror.publishable(&spec).await {
        Err(e) if ["PUBLISH_NEEDS_FORCE", "RESTACKED_WORK_CONFLICT"].contains(&e.reason()) => {
            let refused = publishing::Refused { reason: e.reason(), message: e.message().to_owned() };
            return Ok(Err((refused, tip.map(str::to_owned))));
        }
        new => new?,
    };
    if new.rewrites && known_default {
        return Ok(Err((publishing::default_rewritten(name), tip.map(str::to_owned))));
    }
    if publish.plan_only {
        refusals.extend(at_the_push(cx, loaded, remote, (tip, &new.commit)).await?);
    }
    if let (true, false, Some(replaced)) = (new.rewrites, publish.plan_only, &spec.tip) {
        mirror.keep_replaced(&WorkName::parse(job.job_id.as_str())?, replaced).await?;
    }
    Ok(Ok(Planned { tip: tip.map(str::to_owned), new, refusals }))
}

/// What a push would be refused for that is found out at the push alone; for a plan.
async fn at_the_push(
    cx: &Context,
    loaded: &Loaded,
    remote: &RemoteUrl,
    (tip, new): (Option<&str>, &CommitId),
) -> std::result::Result<Vec<publishing::Refused>, Failed> {
    let name = loaded.branch.as_str();
    let other = match tip {
        None => branches::conflict(&cx.store, &loaded.repository.repository_id, name).await?,
        Some(_) => None,
    };
    let other = other.filter(|other| other != name).map(|other| publishing::in_the_way(name, &other));
    Ok(other.into_iter().chain(lfs::lacks(loaded, remote, new).await?).collect())
}

/// The commit of the work of which the tip was made, and whether it is work of the task: then it counts as seen.
async fn made_of(cx: &Context, loaded: &Loaded, tip: Option<&str>) -> Result<(Option<String>, bool)> {
    let Loaded { task, work, before, repository, branch, .. } = loaded;
    let Some(tip) = tip else { return Ok((None, false)) };
    let (id, name) = (&repository.repository_id, branch.as_str());
    let published = before.as_ref().filter(|p| p.commit == tip).map(|p| p.work_commit.clone());
    let made = match published {
        // A push that was cut off may have arrived.
        None => jobs::published_as(&cx.store, task, (id, name, tip)).await?,
        published => published,
    };
    if made.is_some() || !work.works_on(name) {
        let is_ours = made.is_some();
        return Ok((made, is_ours));
    }
    // It started from what the branch was before it was restacked.
    let moves = jobs::moves(&cx.store, id, name).await?;
    let is_restacked = publishing::restacked_from(&moves, &work.base_commit, tip);
    Ok((is_restacked.then(|| work.base_commit.clone()), false))
}

/// What stands against the push and is known without the remote.
async fn refusals(cx: &Context, loaded: &Loaded) -> Result<Vec<publishing::Refused>> {
    let Loaded { publish, work, branch, .. } = loaded;
    let mut refusals = publishing::unfinished(publish, &work.notices);
    if work.branch != branch.as_str() {
        let owner = clones::owner(&cx.store, &work.repository_id, branch.as_str(), &work.task_id).await?;
        refusals.extend(publishing::has_task(publish, branch.as_str(), owner.as_deref()));
    }
    Ok(refusals)
}

fn show_plan(branch: &mut JobBranch, new: Publishable) {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    branch.new_commit = new.commit.to_string();
    branch.rewrites = new.rewrites;
    branch.commit_count = count(new.commit_count);
    branch.files_changed = i32::try_from(new.files).unwrap_or(i32::MAX);
    branch.additions = count(new.additions);
    branch.deletions = count(new.deletions);
    branch.commits = new.commits.into_iter().map(named).collect();
    branch.lost_commits = new.lost.into_iter().map(named).collect();
    branch.lost_count = count(new.lost_count);
}

fn named((id, subject): (CommitId, String)) -> JobCommit {
    JobCommit { commit: id.to_string(), subject }
}
