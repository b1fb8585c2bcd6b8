//! The objects of a repository on this host, where `git lfs` of its owner has them.

use std::path::PathBuf;

use super::{Incoming, Pointer, Store, copy};
use crate::{GitError, Result};

/// The directory with the objects of a repository.
pub(super) struct Local {
    lfs: PathBuf,
}

impl Local {
    /// Of the repository in this directory, bare or with a work tree; `None` for a linked work tree, whose objects are
    /// elsewhere.
    pub(super) fn new(repository: &std::path::Path) -> Option<Self> {
        let inside = repository.join(".git");
        if inside.is_file() {
            return None;
        }
        let git = if inside.is_dir() { inside } else { repository.to_owned() };
        Some(Self { lfs: git.join("lfs") })
    }

    fn path(&self, pointer: &Pointer) -> PathBuf {
        pointer.below(&self.lfs.join("objects"))
    }

    pub(super) fn has(&self, pointer: &Pointer) -> bool {
        let found = std::fs::metadata(self.path(pointer));
        found.is_ok_and(|meta| meta.is_file() && meta.len() == pointer.size)
    }

    pub(super) async fn download(&self, pointer: &Pointer, store: &Store) -> Result<()> {
        let mut file = tokio::fs::File::open(self.path(pointer)).await.map_err(|e| unreadable(&e))?;
        store.take(pointer, &mut file).await
    }

    pub(super) async fn upload(&self, pointer: &Pointer, store: &Store) -> Result<()> {
        let mut file = tokio::fs::File::open(store.path(pointer)).await.map_err(|e| unreadable(&e))?;
        // Others read the repository as git's own objects let them.
        let (tmp, path) = (self.lfs.join("tmp"), self.path(pointer));
        let mut incoming = Incoming::begin(&tmp, path, pointer, 0o666).await?;
        copy(&mut file, &mut incoming).await?;
        incoming.finish().await
    }
}

fn unreadable(e: &std::io::Error) -> GitError {
    GitError::io("cannot read an LFS object", e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linked_work_tree_has_no_objects_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Local::new(dir.path()).is_some());
        std::fs::write(dir.path().join(".git"), "gitdir: /srv/r/.git/worktrees/x\n").unwrap();
        assert!(Local::new(dir.path()).is_none());
    }
}
