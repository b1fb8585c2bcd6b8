//! Returns one file of the tree of a work: a bounded read of one object of the mirror.

use bytes::Bytes;
use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_git::{EntryKind, GitError, GitErrorKind, ObjectKind, RepoPath};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{GetWorkFileRequest, GetWorkFileResponse};

use super::list_work_tree::{entry, open, readable};
use crate::context::Context;

/// Largest content that is returned, in bytes.
const MAX_CONTENT: u64 = 1 << 20;
/// How much of a content is looked at to tell text from binary.
const SNIFFED: usize = 8 << 10;

/// Reads the file as the readable commit has it: the raw object, through no filter and no conversion.
/// The content of a symbolic link is its target, which is not followed.
///
/// # Errors
/// `NOT_FOUND` for the work or the file, `INVALID_ARGUMENT` for a path that leaves the tree or is that of
/// a directory or submodule (`PATH_WRONG_KIND`).
pub async fn get_work_file(
    cx: &Context,
    caller: &Caller,
    request: GetWorkFileRequest,
) -> Result<GetWorkFileResponse> {
    let work = cx.work(caller, &request.task_id, Role::Viewer).await?;
    let path = RepoPath::parse(&request.path)
        .map_err(|e| Error::invalid_field("path", e.to_string()).caused_by(e))?;
    let commit = readable(&work)?;
    let _turn = cx.reads.acquire().await.map_err(Error::internal)?;
    let mirror = open(cx, &work).await?;
    let found = mirror.entry(&commit, &path).await.map_err(|e| absent(e, &request.path))?;
    if matches!(found.kind, EntryKind::Directory | EntryKind::Submodule) {
        return Err(GitError::new(
            GitErrorKind::Invalid,
            "PATH_WRONG_KIND",
            format!("{path} is a directory or a submodule"),
        )
        .into());
    }
    let answer = GetWorkFileResponse {
        entry: Some(entry(&found)),
        content: Bytes::new(),
        binary: false,
        too_large: true,
        version: work.version,
    };
    if found.size.is_none_or(|size| size > MAX_CONTENT) {
        return Ok(answer);
    }
    let object = mirror.object(&found.object).await?;
    if object.kind != ObjectKind::Blob {
        return Err(Error::internal(format!("{path} of {commit} is no blob")));
    }
    let binary = object.bytes.iter().take(SNIFFED).any(|b| *b == 0);
    Ok(GetWorkFileResponse { content: object.bytes, binary, too_large: false, ..answer })
}

/// A path that is not in the tree is an absent file.
fn absent(e: GitError, path: &str) -> Error {
    if e.reason() == "PATH_NOT_FOUND" { Error::not_found("file", path) } else { e.into() }
}
