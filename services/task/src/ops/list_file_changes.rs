//! The changed files of a task, read from the repo service's store.

use foundry_authn::Caller;
use foundry_core::{PageRequest, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::ListWorkChangesRequest;
use foundry_proto::task::v1::{Changes, ListFileChangesRequest, ListFileChangesResponse};

use crate::context::Context;
use crate::view::files::file_change;

/// Works also when the sandbox is gone; empty before the first import.
///
/// # Errors
/// `FAILED_PRECONDITION` `REPOSITORY_REMOVED`, `WORK_VERSION_GONE` for an earlier version that is not kept, `UNAVAILABLE` `REPO_UNAVAILABLE` when the repo service does not answer, `NOT_FOUND`.
pub async fn list_file_changes(
    cx: &Context,
    caller: &Caller,
    request: ListFileChangesRequest,
) -> Result<ListFileChangesResponse> {
    let aggregate = cx.task(caller, &request.task_id, Role::Viewer).await?;
    aggregate.require_repository()?;
    PageRequest::parse(request.page_size, &request.page_token)?;
    let changes = aggregate.task.view.changes.clone().unwrap_or_default();
    if changes.version == 0 {
        return Ok(ListFileChangesResponse { changes: Some(changes), ..ListFileChangesResponse::default() });
    }
    let task = request.task_id.clone();
    let read = ListWorkChangesRequest {
        task_id: request.task_id,
        page_size: request.page_size,
        page_token: request.page_token,
        whole: request.whole,
        since_version: request.since_version,
    };
    let answer =
        cx.read_repo(cx.repo.clone().list_work_changes(read)).await.map_err(|e| e.of_changes(&task))?;
    let changes = match &answer.work {
        Some(work) => Changes {
            as_of_time: changes.as_of_time,
            not_saved: changes.not_saved,
            ..crate::domain::work::changes(work)
        },
        None => changes,
    };
    let version = changes.version;
    Ok(ListFileChangesResponse {
        changes: Some(changes),
        files: answer.changes.into_iter().map(|change| file_change(change, version)).collect(),
        next_page_token: answer.next_page_token,
        since_version: answer.since_version,
        with_merged: answer.with_merged,
    })
}
