//! Starts a job that does something to branches of the remote.

use std::collections::BTreeSet;

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{RunRepositoryActionRequest, RunRepositoryActionResponse};
use foundry_service::{RequestKey, audit, with_detail};
use foundry_store::{Scope, WriteSet};

use crate::context::Context;
use crate::domain::job::{Action, Kind, requested, unplanned};
use crate::domain::publishing::default_branch;
use crate::flow::action::{ACTION, MAX_BRANCHES, scope};
use crate::ops::new_job::{NewJob, begin};

/// Writes the job; what is done to which branch is decided when it runs, after earlier jobs on the stack. It changes no branch
/// that the overview does not show in that stack now; if there is no overview yet, it waits for the first one.
///
/// # Errors
/// `NOT_FOUND`; `INVALID_ARGUMENT` for a branch that git does not take or the kind does not use; `FAILED_PRECONDITION` for
/// the default branch; `RESOURCE_EXHAUSTED` for too many unfinished jobs.
pub async fn run_repository_action(
    cx: &Context,
    caller: &Caller,
    request: RunRepositoryActionRequest,
) -> Result<RunRepositoryActionResponse> {
    let found = cx.repository(caller, &request.repository_id, Role::Member).await?;
    let organization = found.organization_id.clone();
    let key =
        RequestKey::new(organization.as_str(), caller, "RunRepositoryAction", &request.request_id, &request)?;
    if let Some((answer, rev)) = key.first_answer::<RunRepositoryActionResponse>(&cx.store).await? {
        return Ok(RunRepositoryActionResponse { rev, ..answer });
    }
    let scope = Scope::organization(&organization);
    let decided = cx
        .store
        .retry_on_conflict(|| async {
            let (mut ws, answer) = decide(cx, caller, &request).await?;
            key.remember_create(&mut ws, &answer);
            Ok((ws, answer))
        })
        .await;
    let (answer, rev) = key.settle(&cx.store, Some(&scope), decided).await?;
    Ok(RunRepositoryActionResponse { rev, ..answer })
}

async fn decide(
    cx: &Context,
    caller: &Caller,
    request: &RunRepositoryActionRequest,
) -> Result<(WriteSet, RunRepositoryActionResponse)> {
    let repository = cx.repository(caller, &request.repository_id, Role::Member).await?;
    repository.require_mirror()?;
    let (action, mut settings) = requested(request)?;
    settings.awaits_overview = scope::is_unknown(&repository, action);
    let changes = !matches!(action, Action::SyncRepo | Action::RegisterExistingBranch);
    if changes && settings.branch == repository.default_branch {
        return Err(default_branch(&settings.branch));
    }
    if !settings.plan_job_id.is_empty() {
        let planned = cx.job(caller, &settings.plan_job_id, Role::Member).await?;
        if planned.repository_id != repository.repository_id {
            return Err(Error::not_found("job", &settings.plan_job_id));
        }
    }
    // Of an overview that is not whole yet, some branches are known; the job takes all of them up once it is.
    let others = match settings.awaits_overview {
        true => BTreeSet::new(),
        false => scope::touched(cx, &repository, action, (&settings.branch, &settings.parent)).await?,
    };
    if others.len() > MAX_BRANCHES {
        let text = format!("the action is about {} branches; at most {MAX_BRANCHES} can be", others.len());
        return Err(Error::precondition("TOO_MANY_BRANCHES", repository.repository_id.as_str(), text)
            .next_action("run the action on one stack after another"));
    }
    let branches = (!settings.branch.is_empty()).then(|| unplanned(&settings.branch)).into_iter().collect();
    let detail = serde_json::json!({
        "action": action.as_str(), "branch": settings.branch, "parent": settings.parent,
        "plan_only": settings.plan_only,
    });
    let new = NewJob {
        kind: Kind::Action(action, settings),
        task_id: None,
        branches,
        others: others.into_iter().collect(),
    };
    let mut ws = WriteSet::new();
    let job = begin(cx, caller, &mut ws, &repository, (new, &ACTION)).await?;
    let record = audit(
        &job.organization_id,
        caller,
        "",
        "repository.action",
        job.job_id.as_str(),
        &request.request_id,
    );
    ws.audit(with_detail(record, detail));
    Ok((ws, RunRepositoryActionResponse { job: Some(job.to_proto()), rev: 0 }))
}
