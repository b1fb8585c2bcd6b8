//! A directory in the tree of a task's work, read from the repo service's store.

use foundry_authn::Caller;
use foundry_core::{Error, PageRequest, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{self as repo, ListWorkTreeRequest, TreeEntryKind};
use foundry_proto::task::v1::{FileTreeEntry, ListFileTreeRequest, ListFileTreeResponse};

use crate::context::{Context, UpstreamError};

/// Works also when the sandbox is gone; empty before the first import.
///
/// # Errors
/// `UNAVAILABLE` `REPO_UNAVAILABLE` when the repo service does not answer, `NOT_FOUND` for the task or the
/// directory, `INVALID_ARGUMENT` `PATH_WRONG_KIND` when the path is not a directory.
pub async fn list_file_tree(
    cx: &Context,
    caller: &Caller,
    request: ListFileTreeRequest,
) -> Result<ListFileTreeResponse> {
    let aggregate = cx.task(caller, &request.task_id, Role::Viewer).await?;
    PageRequest::parse(request.page_size, &request.page_token)?;
    if aggregate.task.view.changes.as_ref().is_none_or(|c| c.version == 0) {
        return Ok(ListFileTreeResponse::default());
    }
    let path = request.path.clone();
    let read = ListWorkTreeRequest {
        task_id: request.task_id,
        path: request.path,
        page_size: request.page_size,
        page_token: request.page_token,
    };
    let answer = cx.read_repo(cx.repo.clone().list_work_tree(read)).await;
    let answer = answer.map_err(|e| refused(e, "directory", &path))?;
    Ok(ListFileTreeResponse {
        entries: answer.entries.into_iter().map(file_tree_entry).collect(),
        next_page_token: answer.next_page_token,
        version: answer.version,
    })
}

/// Converts a directory entry from the repo service's message.
pub(super) fn file_tree_entry(entry: repo::TreeEntry) -> FileTreeEntry {
    let kind = match entry.kind() {
        TreeEntryKind::Unspecified | TreeEntryKind::File => "file",
        TreeEntryKind::Directory => "directory",
        TreeEntryKind::Symlink => "symlink",
        TreeEntryKind::Submodule => "submodule",
    };
    FileTreeEntry { kind: kind.to_owned(), path: entry.path, size: entry.size, executable: entry.executable }
}

/// The repo service's error about a path, for the caller who asked for it here.
pub(super) fn refused(e: UpstreamError, kind: &str, path: &str) -> Error {
    match (e.code, e.reason.as_str()) {
        (tonic::Code::NotFound, _) => Error::not_found(kind, path),
        (_, "PATH_WRONG_KIND") => {
            Error::new(e.code, "PATH_WRONG_KIND", e.message).next_action("check the kind of the entry")
        }
        (_, "INVALID_FIELD") => Error::invalid_field("path", "is not a path from a listing"),
        _ => e.of_repo(),
    }
}
