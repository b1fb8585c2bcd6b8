//! A directory in the tree of a task's work, read from the repo service's store.

use foundry_authn::Caller;
use foundry_core::{PageRequest, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::ListWorkTreeRequest;
use foundry_proto::task::v1::{ListFileTreeRequest, ListFileTreeResponse};

use crate::context::Context;
use crate::view::files::file_tree_entry;

/// Works also when the sandbox is gone; empty before the first import.
///
/// # Errors
/// `FAILED_PRECONDITION` `REPOSITORY_REMOVED`, `UNAVAILABLE` `REPO_UNAVAILABLE` when the repo service does not answer, `NOT_FOUND` for the task or the
/// directory, `INVALID_ARGUMENT` `PATH_WRONG_KIND` when the path is not a directory.
pub async fn list_file_tree(
    cx: &Context,
    caller: &Caller,
    request: ListFileTreeRequest,
) -> Result<ListFileTreeResponse> {
    let aggregate = cx.task(caller, &request.task_id, Role::Viewer).await?;
    aggregate.require_repository()?;
    PageRequest::parse(request.page_size, &request.page_token)?;
    if aggregate.task.view.changes.as_ref().is_none_or(|c| c.version == 0) {
        return Ok(ListFileTreeResponse::default());
    }
    let (task, path) = (request.task_id.clone(), request.path.clone());
    let read = ListWorkTreeRequest {
        task_id: request.task_id,
        path: request.path,
        page_size: request.page_size,
        page_token: request.page_token,
    };
    let answer = cx.read_repo(cx.repo.clone().list_work_tree(read)).await;
    let answer = answer.map_err(|e| e.of_path(&task, "directory", &path))?;
    Ok(ListFileTreeResponse {
        entries: answer.entries.into_iter().map(file_tree_entry).collect(),
        next_page_token: answer.next_page_token,
        version: answer.version,
    })
}
