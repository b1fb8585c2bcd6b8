//! A changed file of a work.

use bytes::Bytes;
use foundry_git::{ChangeKind, FileChange, Patch};
use foundry_proto::repo::v1::{self, FileChangeKind};

/// `content` of a file that the change deletes.
const DELETED: &str = "deleted";

/// A changed file as callers see it, and its patch; that is empty if it is too large.
pub fn with_patch(change: &FileChange, patch: Patch) -> (v1::FileChange, Bytes) {
    let (bytes, too_large) = match patch {
        Patch::Bytes(bytes) => (bytes, false),
        Patch::TooLarge { .. } => (Bytes::new(), true),
    };
    (v1::FileChange { too_large, ..file_change(change) }, bytes)
}

/// A changed file as callers see it.
pub fn file_change(change: &FileChange) -> v1::FileChange {
    let kind = match change.kind {
        ChangeKind::Added => FileChangeKind::Added,
        ChangeKind::Deleted => FileChangeKind::Deleted,
        ChangeKind::Renamed => FileChangeKind::Renamed,
        ChangeKind::TypeChanged => FileChangeKind::TypeChanged,
        ChangeKind::Modified | ChangeKind::ModeChanged => FileChangeKind::Modified,
    };
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let content = match &change.new_object {
        Some(object) => format!("{object}:{:o}", change.new_mode),
        None => DELETED.to_owned(),
    };
    v1::FileChange {
        path: change.path.to_string(),
        old_path: change.old_path.as_ref().map(ToString::to_string).unwrap_or_default(),
        kind: kind.into(),
        additions: count(change.additions),
        deletions: count(change.deletions),
        binary: change.binary,
        patch_size: count(change.patch_size),
        too_large: false,
        content,
    }
}
