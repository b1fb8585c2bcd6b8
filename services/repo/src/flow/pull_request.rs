//! Opens the pull request of a published branch, or brings it up to date: the last stage of a publication.

#[cfg(test)]
pub mod tests;

use foundry_core::{JobId, Result};
use foundry_flow::{Outcome, StageContext};
use foundry_forge::{Facts, Forge, ForgeError, ForgeErrorKind, Known, PullRequest};
use foundry_proto::repo::v1::{JobBranch, PublishSettings, PullRequestSettings};
use foundry_service::{audit_as, with_detail};
use foundry_store::{Guard, Scope, WriteSet};

use super::pulls;
use crate::broker;
use crate::context::Context;
use crate::domain::job::{Job, Kind};
use crate::domain::pull_request::{self, JOB, Kept};
use crate::domain::repository::{Repository, State};
use crate::store::pull_requests::{self, PullRow};
use crate::store::repositories::REPOSITORIES;
use crate::store::{jobs, repositories, works};

/// Finds the pull request of the branch or creates it, and records it. A job that wants none is done.
pub async fn open(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let id: JobId = flow.subject_id().parse()?;
    let Some(job) = jobs::find(&cx.store, &id).await? else { return Ok(Outcome::done()) };
    let Kind::Publish(publish) = &job.kind else { return Ok(Outcome::done()) };
    let (Some(wanted), Some(branch), false) =
        (&publish.pull_request, job.branches.first(), publish.plan_only)
    else {
        return Ok(Outcome::done());
    };
    let repository = repositories::find(&cx.store, &job.repository_id).await?;
    let Some(repository) = repository.filter(|r| r.state != State::Deleting) else {
        return Ok(Outcome::fail("REPOSITORY_REMOVED", "the repository is being removed"));
    };
    flow.progress("opening the pull request").await;
    loop {
        let forge = match broker::forge(cx, &repository).await {
            Ok(forge) => forge,
            // An app that could not get its token yet.
            Err(e) if !e.reason().is_empty() && e.code() != foundry_core::Code::Unavailable => {
                return Ok(Outcome::fail(e.reason(), e.message()));
            }
            Err(e) => return Err(e),
        };
        let opened = tokio::select! {
            opened = opened(&*forge.api, job.job_id.as_str(), (publish, wanted), branch) => opened,
            () = flow.cancellation().cancelled() => return Ok(Outcome::retry("STOPPED", "the job was stopped")),
        };
        match opened {
            Ok((found, created, facts)) => {
                return record(cx, flow, (&job, &repository, branch), (&found, created, facts)).await;
            }
            Err(e) if forge.is_outdated(cx, &e) => {}
            Err(e) => return Ok(failed(&e, job.job_id.as_str())),
        }
    }
}

async fn opened(
    forge: &dyn Forge,
    job: &str,
    (publish, wanted): (&PublishSettings, &PullRequestSettings),
    branch: &JobBranch,
) -> Result<(PullRequest, bool, Facts), ForgeError> {
    let new = pull_request::new(job, wanted, publish, branch);
    let (found, created) = foundry_forge::find_or_create(forge, &new, pull_request::given(wanted)).await?;
    // They are read again soon, whatever the host says now.
    let facts = forge.facts(&found, &Known::default()).await.unwrap_or_default();
    Ok((found, created, facts))
}

async fn record(
    cx: &Context,
    flow: &StageContext,
    (job, repository, branch): (&Job, &Repository, &JobBranch),
    (found, created, facts): (&PullRequest, bool, Facts),
) -> Result<Outcome> {
    let shown = pull_request::shown(found, &facts);
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&job.organization_id));
    let mut job = job.clone();
    if let Some(first) = job.branches.first_mut() {
        first.pull_request = Some(pull_request::brief(shown.clone()));
    }
    jobs::set_branches(&mut ws, rev, &job);
    let row = PullRow {
        pull_request: shown.clone(),
        kept: Kept {
            known: facts.known,
            asked: found.review_requested,
            author: found.author.clone(),
            read_at: found.head_commit.clone(),
            read_time: cx.env.clock.now().as_micros(),
            denied: facts.denied.is_some(),
        },
    };
    pull_requests::put(&mut ws, rev, (&job.organization_id, &job.repository_id), &row)?;
    if let Some(task) = &job.task_id
        && let Some(mut work) = works::find(&cx.store, task).await?
        && let Some(publication) = work.publication.as_mut().filter(|p| p.branch == branch.branch)
    {
        publication.pull_request = Some(shown.clone());
        works::save(&mut ws, rev, &work);
    }
    let exists = [("repository_id", repository.repository_id.as_str().into())];
    ws.guard(Guard::exists(&REPOSITORIES, &exists));
    pulls::want(cx, &mut ws, repository, JOB);
    let action = if created { "pull_request.create" } else { "pull_request.update" };
    let record = audit_as(&flow.flow().user_id, &job.organization_id, action, job.job_id.as_str(), "");
    let detail = serde_json::json!({ "branch": branch.branch, "number": shown.number, "url": shown.url });
    ws.audit(with_detail(record, detail));
    Ok(Outcome::done().recording(ws))
}

fn failed(e: &ForgeError, job: &str) -> Outcome {
    tracing::warn!(job, reason = e.reason(), "a pull request was not opened: {e}");
    match e.kind() {
        ForgeErrorKind::RateLimited(until) => {
            // Nothing signals it.
            Outcome::wait(format!("pull_requests/{job}"), e.message()).because(e.reason()).until(until)
        }
        _ if e.is_passing() => Outcome::retry(e.reason(), e.message()),
        _ => Outcome::fail(e.reason(), e.message()),
    }
}
