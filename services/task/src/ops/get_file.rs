//! The content of a file in the tree of a task's work, read from the repo service's store.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::GetWorkFileRequest;
use foundry_proto::task::v1::{GetFileRequest, GetFileResponse};

use crate::context::{Context, no_such_path};
use crate::view::files::file_tree_entry;

/// Works also when the sandbox is gone. The content of a symbolic link is its target.
///
/// # Errors
/// `FAILED_PRECONDITION` `REPOSITORY_REMOVED`, `UNAVAILABLE` `REPO_UNAVAILABLE` when the repo service does not answer, `NOT_FOUND` for the task or the
/// file, `INVALID_ARGUMENT` `PATH_WRONG_KIND` for a directory or submodule.
pub async fn get_file(cx: &Context, caller: &Caller, request: GetFileRequest) -> Result<GetFileResponse> {
    let aggregate = cx.task(caller, &request.task_id, Role::Viewer).await?;
    aggregate.require_repository()?;
    if request.path.is_empty() {
        return Err(Error::invalid_field("path", "must not be empty"));
    }
    if aggregate.task.view.changes.as_ref().is_none_or(|c| c.version == 0) {
        return Err(no_such_path(&request.task_id, "file", &request.path));
    }
    let (task, path) = (request.task_id.clone(), request.path.clone());
    let read = GetWorkFileRequest { task_id: request.task_id, path: request.path };
    let answer = cx.read_repo(cx.repo.clone().get_work_file(read)).await;
    let answer = answer.map_err(|e| e.of_path(&task, "file", &path))?;
    Ok(GetFileResponse {
        entry: answer.entry.map(file_tree_entry),
        content: answer.content,
        binary: answer.binary,
        too_large: answer.too_large,
        version: answer.version,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use foundry_core::Code;
    use foundry_proto::task::v1::ListFileTreeRequest;

    use super::*;
    use crate::ops::list_file_tree::list_file_tree;
    use crate::testing::World;

    #[tokio::test]
    async fn reads_tree_and_file_of_what_was_imported_and_of_nothing_else() {
        let world = World::new().await;
        let (tenant, other) = (world.tenant(Role::Member).await, world.tenant(Role::Owner).await);
        let running = world.start().await;
        let task = running.create(&tenant, "x").await.task.unwrap().task_id;
        let tree = |path: &str| ListFileTreeRequest {
            task_id: task.clone(),
            path: path.into(),
            ..ListFileTreeRequest::default()
        };
        let file = |path: &str| GetFileRequest { task_id: task.clone(), path: path.into() };
        let (cx, caller) = (&running.cx, &tenant.caller);
        assert_eq!(list_file_tree(cx, caller, tree("")).await.unwrap(), Default::default());
        assert_eq!(get_file(cx, caller, file("a.txt")).await.unwrap_err().code(), Code::NotFound);
        world.repo.import(&tenant.organization, &task, 1).await;
        running.until(&tenant, &task, |t| t.task.as_ref().unwrap().changes.is_some()).await;
        let found = list_file_tree(cx, caller, tree("dir/")).await.unwrap();
        assert_eq!((found.version, found.next_page_token.as_str()), (3, "next"));
        assert_eq!(
            (found.entries[0].path.as_str(), found.entries[0].kind.as_str()),
            ("dir/a.txt", "symlink")
        );
        let found = get_file(cx, caller, file("a.txt")).await.unwrap();
        assert_eq!((&found.content[..], found.version), (&b"hello"[..], 3));
        assert!(found.entry.unwrap().executable);
        let foreign = get_file(cx, &other.caller, file("a.txt")).await.unwrap_err();
        assert_eq!(foreign.code(), Code::NotFound);
        let foreign = list_file_tree(cx, &other.caller, tree("")).await.unwrap_err();
        assert_eq!(foreign.code(), Code::NotFound);
        let absent = list_file_tree(cx, caller, tree("absent")).await.unwrap_err();
        assert_eq!(absent.code(), Code::NotFound);
        assert_eq!(absent.message(), format!("the work of task {task} has no directory \"absent\""));
        assert_eq!(get_file(cx, caller, file("dir")).await.unwrap_err().reason(), "PATH_WRONG_KIND");
        assert_eq!(get_file(cx, caller, file("")).await.unwrap_err().code(), Code::InvalidArgument);
        world.repo.down.store(true, Ordering::SeqCst);
        assert_eq!(get_file(cx, caller, file("a.txt")).await.unwrap_err().reason(), "REPO_UNAVAILABLE");
        running.stop().await;
    }
}
