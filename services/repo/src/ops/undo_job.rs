//! Starts a job that brings the branches of another job back.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{ActionSettings, UndoJobRequest, UndoJobResponse};
use foundry_service::{RequestKey, audit, with_detail};
use foundry_store::{Scope, WriteSet};

use crate::context::Context;
use crate::domain::job::{Action, Job, Kind, State, may_have_pushed, unplanned};
use crate::flow::action::{ACTION, MAX_BRANCHES};
use crate::ops::new_job::{NewJob, begin};
use crate::store::repositories;

/// Writes the job; what of a push of unknown outcome has arrived, and whether somebody has pushed since, is decided when it runs.
///
/// # Errors
/// `NOT_FOUND`; `INVALID_FIELD` for a branch that the job has not pushed; `FAILED_PRECONDITION` `JOB_NOT_UNDOABLE` for a job that runs, is no action, or has changed nothing.
pub async fn undo_job(cx: &Context, caller: &Caller, request: UndoJobRequest) -> Result<UndoJobResponse> {
    let found = cx.job(caller, &request.job_id, Role::Member).await?;
    let organization = found.organization_id.clone();
    let key = RequestKey::new(organization.as_str(), caller, "UndoJob", &request.request_id, &request)?;
    if let Some((answer, rev)) = key.first_answer::<UndoJobResponse>(&cx.store).await? {
        return Ok(UndoJobResponse { rev, ..answer });
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
    Ok(UndoJobResponse { rev, ..answer })
}

async fn decide(
    cx: &Context,
    caller: &Caller,
    request: &UndoJobRequest,
) -> Result<(WriteSet, UndoJobResponse)> {
    let undone = cx.job(caller, &request.job_id, Role::Member).await?;
    let repository = repositories::find(&cx.store, &undone.repository_id).await?;
    let repository = repository.ok_or_else(|| Error::not_found("job", &request.job_id))?;
    repository.require_mirror()?;
    let Kind::Action(_, before) = &undone.kind else {
        let refused = not_undoable(&undone, "it is no action on branches");
        return Err(match replaced(&undone) {
            Some(next) => refused.next_action(next),
            None => refused,
        });
    };
    if !undone.state.is_finished() {
        return Err(not_undoable(&undone, "it has not ended").next_action("wait for its end, or cancel it"));
    }
    let pushed: Vec<&str> =
        undone.branches.iter().filter(|b| may_have_pushed(b)).map(|b| b.branch.as_str()).collect();
    if pushed.is_empty() {
        return Err(not_undoable(&undone, "it has changed no branch at the remote"));
    }
    let pushed = chosen(pushed, &request.branches)?;
    let settings = ActionSettings {
        plan_only: request.plan_only,
        undone_job_id: undone.job_id.to_string(),
        committer_name: before.committer_name.clone(),
        committer_email: before.committer_email.clone(),
        ..ActionSettings::default()
    };
    let new = NewJob {
        kind: Kind::Action(Action::Undo, settings),
        task_id: None,
        branches: pushed.into_iter().map(unplanned).collect(),
        others: Vec::new(),
    };
    let mut ws = WriteSet::new();
    let job = begin(cx, caller, &mut ws, &repository, (new, &ACTION)).await?;
    let record =
        audit(&job.organization_id, caller, "", "job.undo", job.job_id.as_str(), &request.request_id);
    ws.audit(with_detail(record, serde_json::json!({ "undone": undone.job_id.as_str() })));
    Ok((ws, UndoJobResponse { job: Some(job.to_proto()), rev: 0 }))
}

/// How to get what a publication has replaced; none if it has replaced nothing.
fn replaced(job: &Job) -> Option<String> {
    let task = job.task_id.as_ref()?;
    let branch = job.branches.iter().find(|b| b.rewrites && may_have_pushed(b))?;
    let (id, branch) = (&job.job_id, &branch.branch);
    Some(format!(
        "what it replaced is kept: `foundry task fetch {task} --replaced {id}` gets it as a branch of your clone, from where it can be \
         pushed to {branch} again"
    ))
}

/// The branches that are brought back: those that the request names, or all.
fn chosen<'a>(pushed: Vec<&'a str>, named: &[String]) -> Result<Vec<&'a str>> {
    if named.len() > MAX_BRANCHES {
        return Err(Error::invalid_field("branches", format!("must be at most {MAX_BRANCHES}")));
    }
    if let Some(other) = named.iter().find(|name| !pushed.contains(&name.as_str())) {
        let text = format!("must be branches that the job has pushed, which {other} is not");
        return Err(Error::invalid_field("branches", text));
    }
    Ok(pushed.into_iter().filter(|name| named.is_empty() || named.iter().any(|it| it == name)).collect())
}

fn not_undoable(job: &Job, why: &str) -> Error {
    let state = if job.state == State::Done { "" } else { "the job did not succeed; " };
    let text = format!("the job cannot be undone: {state}{why}");
    Error::precondition("JOB_NOT_UNDOABLE", job.job_id.as_str(), text)
}
