//! An entry of the tree of a work.

use foundry_git::EntryKind;
use foundry_proto::repo::v1::{TreeEntry, TreeEntryKind};

/// An entry as callers see it.
pub fn entry(e: &foundry_git::TreeEntry) -> TreeEntry {
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
