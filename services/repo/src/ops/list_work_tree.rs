//! Lists a directory of a work: a bounded read of objects of the mirror.

use foundry_authn::Caller;
use foundry_core::{Error, PageRequest, PageToken, Result};
use foundry_git::RepoPath;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{ListWorkTreeRequest, ListWorkTreeResponse};

use crate::context::Context;
use crate::view;

/// Reads one directory of the readable commit.
///
/// # Errors
/// `NOT_FOUND` for the work or the directory, `INVALID_ARGUMENT` for a path that leaves the tree.
pub async fn list_work_tree(
    cx: &Context,
    caller: &Caller,
    request: ListWorkTreeRequest,
) -> Result<ListWorkTreeResponse> {
    let work = cx.work(caller, &request.task_id, Role::Viewer).await?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let offset = page.begins_after(0, |text| text.parse().ok())?;
    let path = match request.path.as_str() {
        "" => None,
        text => Some(RepoPath::parse(text).map_err(|e| Error::invalid_field("path", e.to_string()))?),
    };
    let commit = work.readable_commit()?;
    let _turn = cx.reads.acquire().await.map_err(Error::internal)?;
    let mirror = cx.mirror_of(&work).await?;
    let found = mirror.list_tree(&commit, path.as_ref(), offset, page.size as usize).await?;
    Ok(ListWorkTreeResponse {
        entries: found.entries.iter().map(view::tree::entry).collect(),
        next_page_token: PageToken::encode_next(found.next_offset.map(|o| PageToken(o.to_string()))),
        commit: commit.to_string(),
        version: work.version,
    })
}
