//! Lists a directory of a work: a bounded read of objects of the mirror.

use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{Error, PageRequest, PageToken, Result};
use foundry_git::{CommitId, EntryKind, Mirror, MirrorLimits, RepoPath};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{ListWorkTreeRequest, ListWorkTreeResponse, TreeEntry, TreeEntryKind};

use crate::context::Context;
use crate::domain::work::Work;

/// How long one read of the mirror may take.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// Converts a directory entry to its wire form.
pub(super) fn entry(e: &foundry_git::TreeEntry) -> TreeEntry {
    let (kind, executable) = match e.kind {
        EntryKind::Directory => (TreeEntryKind::Directory, false),
        EntryKind::Symlink => (TreeEntryKind::Symlink, false),
        EntryKind::Submodule => (TreeEntryKind::Submodule, false),
        EntryKind::Executable => (TreeEntryKind::File, true),
        EntryKind::File => (TreeEntryKind::File, false),
    };
    TreeEntry {
        path: e.path.to_string(),
        kind: kind.into(),
        size: e.size.and_then(|s| i64::try_from(s).ok()).unwrap_or_default(),
        executable,
    }
}

/// The commit whose tree is shown: the work's head, or its base before the first import.
pub(super) fn readable(work: &Work) -> Result<CommitId> {
    let commit = if work.head_commit.is_empty() { &work.base_commit } else { &work.head_commit };
    Ok(CommitId::parse(commit)?)
}

/// Opens the mirror that holds a work, with a time limit suitable for a waiting caller.
pub(super) async fn open(cx: &Context, work: &Work) -> Result<Mirror> {
    let limits = MirrorLimits { local_wall: READ_LIMIT, ..MirrorLimits::default() };
    Ok(Mirror::open(&cx.git, cx.mirror_path(&work.repository_id), limits).await?)
}

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
    let commit = readable(&work)?;
    let _turn = cx.reads.acquire().await.map_err(Error::internal)?;
    let mirror = open(cx, &work).await?;
    let found = mirror.list_tree(&commit, path.as_ref(), offset, page.size as usize).await?;
    Ok(ListWorkTreeResponse {
        entries: found.entries.iter().map(entry).collect(),
        next_page_token: PageToken::encode_next(found.next_offset.map(|o| PageToken(o.to_string()))),
        commit: commit.to_string(),
        version: work.version,
    })
}
