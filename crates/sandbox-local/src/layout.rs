//! The directory of one sandbox, and the file work on it.
//!
//! ```text
//! <root>/<sandbox>/            0700, the host's own; only the marked parts are visible inside
//!   sandbox.json               what was allocated
//!   runtime.json exit.json     the running runtime; how the last one ended
//!   cgroup.json limits.json    its control group; its limits and those reached
//!   runtime.lock               held by the supervisor for as long as the runtime lives
//!   start.lock                 held by a worker while it looks for a runtime and starts one
//!   runtime.sock               where the runtime listens, not visible inside
//!   etc/{passwd,group}         -> /etc (read-only)
//!   log/runtime.log            output of the runtime, not visible inside
//!   home/ tmp/                 -> /home/agent, /tmp (writable)
//!   repo/workspace/            -> /workspace (writable)
//!   repo/repo.json             what was cloned; `repo` is renamed into place when it is whole
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use foundry_sandbox::SandboxName;
use serde::de::DeserializeOwned;

/// Longer than any clone: its stage has 15 minutes.
const MAX_CLONE_AGE: Duration = Duration::from_secs(3600);

/// Paths of one sandbox on the host.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub dir: PathBuf,
}

impl Layout {
    pub fn new(root: &Path, name: &SandboxName) -> Self {
        Self { dir: root.join(name.as_str()) }
    }

    pub fn record(&self) -> PathBuf {
        self.dir.join("sandbox.json")
    }

    pub fn repo(&self) -> PathBuf {
        self.dir.join("repo")
    }

    pub fn repo_record(&self) -> PathBuf {
        self.repo().join("repo.json")
    }

    pub fn facts(&self) -> PathBuf {
        self.dir.join("runtime.json")
    }

    pub fn exit(&self) -> PathBuf {
        self.dir.join("exit.json")
    }

    pub fn group(&self) -> PathBuf {
        self.dir.join("cgroup.json")
    }

    pub fn limits(&self) -> PathBuf {
        self.dir.join("limits.json")
    }

    pub fn lock(&self) -> PathBuf {
        self.dir.join("runtime.lock")
    }

    pub fn start_lock(&self) -> PathBuf {
        self.dir.join("start.lock")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("runtime.sock")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("log/runtime.log")
    }

    pub fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    pub fn workspace(&self) -> PathBuf {
        self.repo().join("workspace")
    }

    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    pub fn etc(&self) -> PathBuf {
        self.dir.join("etc")
    }
}

/// Makes a directory with this mode; an existing one is no error.
pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Renames a finished directory into place. If another worker was faster, ours is removed and the result is false.
pub(crate) fn publish(new: &Path, place: &Path) -> io::Result<bool> {
    match fs::rename(new, place) {
        Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            remove_tree(new)?;
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

/// Removes what unfinished calls left in a directory: every entry whose name has this prefix.
pub(crate) fn remove_left_overs(directory: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes interrupted clones in a sandbox's directory, once they are so old that no worker can still be writing to
/// them.
pub(crate) fn remove_cut_clones(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_clone = entry.file_name().to_string_lossy().starts_with("repo.new-");
        // A time in the future counts as new.
        if is_clone && entry.metadata()?.modified()?.elapsed().unwrap_or_default() > MAX_CLONE_AGE {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Reads one of our own JSON files; none if it is absent or unreadable.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Changes the owner of a tree, never following a link. Only for trees that no agent has touched yet.
pub(crate) fn give_tree(path: &Path, owner: u32) -> io::Result<()> {
    lchown(path, Some(owner), Some(owner))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give_tree(&entry?.path(), owner)?;
        }
    }
    Ok(())
}

/// Removes a tree whose processes are all dead. An agent with our own uid may have made a directory unreadable; it is
/// made readable first, and a link is never followed.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_dirs(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn open_dirs(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(path)? {
            open_dirs(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_a_tree_with_closed_directories_and_leaves_what_links_point_to() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("keep"), "x").unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).unwrap();
        fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o0)).unwrap();
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o0)).unwrap();
        open_dirs(&tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.join("keep").exists());
        remove_tree(&tree).unwrap();
    }
}
