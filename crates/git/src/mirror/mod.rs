//! A bare mirror of one remote repository: its branches under `refs/heads`, the tags that they reach under
//! `refs/tags`, imported work under `refs/foundry/work`, the commits that work started from under
//! `refs/foundry/base`, the work that was published last under `refs/foundry/published`, tips that a push has replaced at
//! the remote under `refs/foundry/replaced`, where branches were and where they shall be, by jobs, under `refs/foundry/jobs`, and under `refs/foundry/empty` the start of work in a repository without a
//! commit. The objects of Git LFS are beside those of git, under `lfs`, and submodules under `modules`.
//!
//! Everything that changes a mirror holds its [`Lock`]; reads need none, because refs change
//! atomically and objects are only added.

mod absorbed;
mod collect;
mod compare;
mod contents;
mod diff;
mod fetch;
mod history;
mod import;
mod jobs;
mod lfs;
mod merged;
mod patch_split;
mod publish;
mod push;
mod quarantine;
mod refs;
mod replay;
mod serve;
mod spice;
mod submodules;
mod tree;
mod wants;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use absorbed::Absorbed;
pub use compare::{ChangeTotals, CommitSummary, TrialMerge};
pub use diff::{ChangeKind, FileChange, Patch};
pub use fetch::FetchReport;
pub use history::History;
pub use import::{ImportLimits, ImportedWork};
pub use lfs::{LfsFetch, LfsLeftOut, LfsUpload};
pub use merged::{Merged, MergedBase, PublishedWork};
pub use publish::{PublishSpec, Publishable};
pub use push::{BranchPush, Pushed, PushedAll, Refusal, RemoteTip};
pub use refs::{Branch, Branches, Revision};
pub use replay::{ReplaySpec, Replayed};
pub use serve::{FetchProtocol, ServedRefs, ServedWork};
pub use submodules::Submodule;
pub use tree::{EntryKind, FileContent, Object, ObjectKind, TreeEntry, TreePage};

pub(crate) use push::harmless;

use crate::lock::Lock;
use crate::{Git, GitCommand, GitError, GitErrorKind, Result, RunLimits};

/// In the mirror: the objects of Git LFS, which are none of git's.
const LFS: &str = "lfs";

/// In the mirror: repositories with the commits of submodules.
const MODULES: &str = "modules";

/// Bounds of one mirror.
#[derive(Clone, Copy, Debug)]
pub struct MirrorLimits {
    /// Wall clock of a fetch. Default 10 minutes.
    pub fetch_wall: Duration,
    /// Wall clock of a checkout that writes the content of files of LFS, for each of which it runs some processes; after it, a
    /// clone starts with pointers. Default 5 minutes.
    pub lfs_checkout_wall: Duration,
    /// Wall clock of listing the names of a remote. Default 60 s.
    pub list_wall: Duration,
    /// Wall clock of a local read or write. Default 60 s.
    pub local_wall: Duration,
    /// How long to wait for another operation on the same mirror. Default 60 s.
    pub lock_wait: Duration,
    /// Size on disk. Default 4 GiB.
    pub max_bytes: u64,
    /// Objects of Git LFS on disk, besides that. Default 8 GiB.
    pub max_lfs_bytes: u64,
    /// Branches of the remote. Default 20,000.
    pub max_refs: u64,
    /// Tags of the remote; when there are more, none is mirrored. Default 20,000.
    pub max_tags: u64,
    /// Memory of one process that reads what an agent made. Default 2 GiB.
    pub memory: u64,
    /// Memory of one process that lists what a remote has. Default 512 MiB.
    pub list_memory: u64,
    /// Memory of one process that takes objects from a remote, or sends some. Default 3 GiB.
    pub fetch_memory: u64,
    /// Files of a tree that is checked out. Default 1,000,000.
    pub checkout_files: u64,
    /// Bytes of all files of a tree that is checked out. Default 32 GiB.
    pub checkout_bytes: u64,
    /// Changed files in one diff. Default 50,000, more than a sandbox hands over.
    pub max_changed_files: u64,
    /// One file's patch or content. Default 1 MiB.
    pub max_file_bytes: u64,
    /// A whole patch. Default 64 MiB.
    pub max_patch_bytes: u64,
}

impl Default for MirrorLimits {
    fn default() -> Self {
        Self {
            fetch_wall: Duration::from_secs(600),
            lfs_checkout_wall: Duration::from_secs(300),
            list_wall: Duration::from_secs(60),
            local_wall: Duration::from_secs(60),
            lock_wait: Duration::from_secs(60),
            max_bytes: 4 << 30,
            max_lfs_bytes: 8 << 30,
            max_refs: 20_000,
            max_tags: 20_000,
            memory: 2 << 30,
            list_memory: 512 << 20,
            fetch_memory: 3 << 30,
            checkout_files: 1_000_000,
            checkout_bytes: 32 << 30,
            max_changed_files: 50_000,
            max_file_bytes: 1 << 20,
            max_patch_bytes: 64 << 20,
        }
    }
}

impl MirrorLimits {
    /// Those of a process that lists a remote.
    fn listing(&self, stdout: u64) -> RunLimits {
        RunLimits { wall: self.list_wall, stdout, file: None, memory: Some(self.list_memory) }
    }
}

/// A bare mirror on disk. Cloning shares nothing but the path: all state is in the directory.
#[derive(Clone, Debug)]
pub struct Mirror {
    git: Git,
    dir: PathBuf,
    limits: MirrorLimits,
    /// Objects in quarantine that are visible through this value besides the mirror's own.
    quarantine: Option<PathBuf>,
}

impl Mirror {
    /// Opens a mirror that [`Mirror::create`] completed.
    pub async fn open(git: &Git, dir: impl Into<PathBuf>, limits: MirrorLimits) -> Result<Self> {
        let mirror = Self { git: git.clone(), dir: dir.into(), limits, quarantine: None };
        if !mirror.dir.is_absolute() {
            return Err(GitError::failed("the mirror path must be absolute"));
        }
        if !tokio::fs::metadata(mirror.dir.join("HEAD")).await.is_ok_and(|m| m.is_file()) {
            return Err(GitError::new(GitErrorKind::NotFound, "MIRROR_NOT_FOUND", "there is no mirror yet"));
        }
        Ok(mirror)
    }

    /// The mirror's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The git it uses.
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// Removes the mirror in `dir` and the files beside it; it is no error if there is none. Waits at most `lock_wait`
    /// for another operation to end.
    pub async fn remove(dir: &Path, lock_wait: Duration) -> Result<()> {
        let _lock = Lock::acquire(dir, lock_wait).await?;
        // Renamed first: a crash half-way must not leave something that opens as a mirror.
        let doomed = with_suffix(dir, ".removed");
        remove_tree(&doomed).await?;
        match tokio::fs::rename(dir, &doomed).await {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(GitError::io("cannot remove the mirror", &e)),
        }
        remove_tree(&doomed).await?;
        remove_tree(&with_suffix(dir, ".creating")).await
    }

    pub(crate) fn limits(&self) -> &MirrorLimits {
        &self.limits
    }

    pub(crate) fn command(&self, subcommand: &'static str) -> GitCommand {
        let command = self.git.command(subcommand).git_dir(&self.dir).limits(self.local(16 << 20));
        match &self.quarantine {
            None => command,
            Some(dir) => quarantine::inside(command, dir, &self.dir.join("objects")),
        }
    }

    fn local(&self, stdout: u64) -> RunLimits {
        RunLimits { wall: self.limits.local_wall, stdout, file: None, memory: Some(self.limits.memory) }
    }

    /// Takes the lock and removes what a killed git left: under the lock, no other process writes.
    async fn lock(&self) -> Result<Lock> {
        let lock = Lock::acquire(&self.dir, self.limits.lock_wait).await?;
        self.clear_stale().await?;
        Ok(lock)
    }

    /// Removes what a git left that did not end by itself. Only under the lock.
    async fn clear_stale(&self) -> Result<()> {
        let dir = self.dir.clone();
        blocking(move || clear_stale(&dir)).await?
    }

    async fn check_size(&self, dir: &Path) -> Result<u64> {
        let dir = dir.to_owned();
        let size = blocking(move || tree_size(&dir)).await??;
        if size > self.limits.max_bytes {
            return Err(GitError::too_large("size of the mirror in bytes", size, self.limits.max_bytes));
        }
        Ok(size)
    }
}

pub(crate) async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(f).await.map_err(|_| GitError::failed("a file operation was interrupted"))
}

pub(crate) fn with_suffix(dir: &Path, suffix: &str) -> PathBuf {
    let mut path = dir.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Removes a directory without following symbolic links; an absent one is no error.
pub(crate) async fn remove_tree(dir: &Path) -> Result<()> {
    match tokio::fs::remove_dir_all(dir).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(GitError::io("cannot remove a left-over directory", &e))
        }
        _ => Ok(()),
    }
}

/// Makes a rename durable.
pub(crate) async fn sync_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent().map(Path::to_owned) else { return Ok(()) };
    blocking(move || std::fs::File::open(parent).and_then(|d| d.sync_all()))
        .await?
        .map_err(|e| GitError::io("cannot sync a directory", &e))
}

fn tree_size(dir: &Path) -> Result<u64> {
    let (mut total, others) = (0, [LFS, MODULES].map(|name| dir.join(name)));
    walk(dir, &mut |path, meta| {
        if !others.iter().any(|other| path.starts_with(other)) {
            total += meta.len();
        }
        Ok(())
    })
    .map_err(|e| GitError::io("cannot measure the mirror", &e))?;
    Ok(total)
}

fn clear_stale(dir: &Path) -> Result<()> {
    let failed = |e| GitError::io("cannot clean up after a killed git process", &e);
    for name in [
        "HEAD.lock",
        "packed-refs.lock",
        "packed-refs.new",
        "config.lock",
        "shallow.lock",
        "gc.pid",
        "objects/info/commit-graph.lock",
        "objects/info/commit-graphs/commit-graph-chain.lock",
    ] {
        remove_if_there(&dir.join(name)).map_err(failed)?;
    }
    let quarantine = dir.join(quarantine::DIR_NAME);
    if quarantine.symlink_metadata().is_ok() {
        std::fs::remove_dir_all(&quarantine).map_err(failed)?;
    }
    walk(&dir.join("refs"), &mut |path, _| match path.extension() {
        Some(e) if e == "lock" => remove_if_there(path),
        _ => Ok(()),
    })
    .map_err(failed)?;
    walk(&dir.join("objects"), &mut |path, _| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let begins = [&b"tmp_"[..], b".tmp-"].iter().any(|begin| name.starts_with(begin));
        let ends = [&b".lock"[..], b".temp"].iter().any(|end| name.ends_with(end));
        if begins || ends { remove_if_there(path) } else { Ok(()) }
    })
    .map_err(failed)
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Visits the files below a directory; files that disappear during the walk are skipped.
pub(crate) fn walk(
    dir: &Path,
    visit: &mut dyn FnMut(&Path, &std::fs::Metadata) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let meta = match entry.metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if meta.is_dir() { walk(&entry.path(), visit)? } else { visit(&entry.path(), &meta)? }
    }
    Ok(())
}
