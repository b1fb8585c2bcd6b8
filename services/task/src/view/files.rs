//! Files and changes of a task, converted from the messages of the repo service that stores them.

use foundry_proto::repo::v1::{self as repo, FileChangeKind, TreeEntryKind};
use foundry_proto::task::v1::{FileChange, FileTreeEntry};

/// A changed file in a version of the changes.
pub fn file_change(change: repo::FileChange, version: i64) -> FileChange {
    let kind = match change.kind() {
        FileChangeKind::Unspecified | FileChangeKind::Modified => "modified",
        FileChangeKind::Added => "added",
        FileChangeKind::Deleted => "deleted",
        FileChangeKind::Renamed => "renamed",
        FileChangeKind::TypeChanged => "type_changed",
    };
    // Older imports did not record what a file is: it counts as another one in each version.
    let content = match change.content {
        unknown if unknown.is_empty() => format!("version {version}"),
        known => known,
    };
    FileChange {
        kind: kind.to_owned(),
        path: change.path,
        old_path: change.old_path,
        additions: change.additions,
        deletions: change.deletions,
        binary: change.binary,
        patch_size: change.patch_size,
        too_large: change.too_large,
        content,
    }
}

/// An entry of a directory.
pub fn file_tree_entry(entry: repo::TreeEntry) -> FileTreeEntry {
    let kind = match entry.kind() {
        TreeEntryKind::Unspecified | TreeEntryKind::File => "file",
        TreeEntryKind::Directory => "directory",
        TreeEntryKind::Symlink => "symlink",
        TreeEntryKind::Submodule => "submodule",
    };
    FileTreeEntry { kind: kind.to_owned(), path: entry.path, size: entry.size, executable: entry.executable }
}
