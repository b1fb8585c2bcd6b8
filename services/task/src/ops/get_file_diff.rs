//! The patch of one file, read from the repo service.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::GetWorkPatchRequest;
use foundry_proto::task::v1::{GetFileDiffRequest, GetFileDiffResponse};

use crate::context::{Context, no_such_path};
use crate::view::files::file_change;

/// Works also when the sandbox is gone.
///
/// # Errors
/// `FAILED_PRECONDITION` `REPOSITORY_REMOVED`, `WORK_VERSION_GONE` for an earlier version that is not kept, `UNAVAILABLE` `REPO_UNAVAILABLE` when the repo service does not answer, `NOT_FOUND` for a file
/// that is not among the changes.
pub async fn get_file_diff(
    cx: &Context,
    caller: &Caller,
    request: GetFileDiffRequest,
) -> Result<GetFileDiffResponse> {
    let aggregate = cx.task(caller, &request.task_id, Role::Viewer).await?;
    aggregate.require_repository()?;
    if request.path.is_empty() {
        return Err(Error::invalid_field("path", "must not be empty"));
    }
    if aggregate.task.view.changes.as_ref().is_none_or(|c| c.version == 0) {
        return Err(no_such_path(&request.task_id, "changed file", &request.path));
    }
    let (task, path) = (request.task_id.clone(), request.path.clone());
    let read = GetWorkPatchRequest {
        task_id: request.task_id,
        path: request.path,
        version: request.version,
        whole: request.whole,
        since_version: request.since_version,
        old_path: request.old_path,
    };
    let answer = cx.read_repo(cx.repo.clone().get_work_patch(read)).await.map_err(|e| match e.code {
        tonic::Code::NotFound => no_such_path(&task, "changed file", &path),
        _ => e.of_changes(&task),
    })?;
    Ok(GetFileDiffResponse {
        file: answer.change.map(|change| file_change(change, answer.version)),
        patch: answer.patch,
        version: answer.version,
    })
}
