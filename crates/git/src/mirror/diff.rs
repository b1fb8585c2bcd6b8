//! What changed between two commits: the list of files and the patches that `git apply` takes.
//!
//! No attribute, external diff or textconv applies (the attribute source is the empty tree), so the outcome depends on
//! the two trees alone.

use std::os::unix::ffi::OsStrExt as _;

use bytes::Bytes;

use super::Mirror;
use super::patch_split::{Section, Splitter};
use crate::{CommitId, GitCommand, GitError, ObjectId, Piped, RepoPath, Result, RunLimits};

const EMPTY_TREE_SHA1: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
const EMPTY_TREE_SHA256: &str = "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321";

/// How a file changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The file exists only after the change.
    Added,
    /// Other content (and perhaps another mode).
    Modified,
    /// The file exists only before the change.
    Deleted,
    /// Moved, perhaps with other content.
    Renamed,
    /// Turned from a file into a symbolic link or submodule, or back.
    TypeChanged,
    /// The same content with another mode.
    ModeChanged,
}

/// One changed file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileChange {
    /// Where it is now; for a deleted file, where it was.
    pub path: RepoPath,
    /// Where a renamed file was.
    pub old_path: Option<RepoPath>,
    /// How it changed.
    pub kind: ChangeKind,
    /// Mode before (`0o100644` …); 0 for an added file.
    pub old_mode: u32,
    /// Mode after; 0 for a deleted file.
    pub new_mode: u32,
    /// Content after; none for a deleted file. For a submodule the id of a commit elsewhere.
    pub new_object: Option<ObjectId>,
    /// Lines added; 0 for a binary file.
    pub additions: u64,
    /// Lines removed; 0 for a binary file.
    pub deletions: u64,
    /// Whether git treats it as binary.
    pub binary: bool,
    /// Bytes of its patch.
    pub patch_size: u64,
}

/// One file's patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// In the form that `git apply` takes.
    Bytes(Bytes),
    /// The patch is over the limit and left out.
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
}

impl Mirror {
    /// The changed files with their numbers, without their patches.
    pub async fn diff_stat(&self, base: &CommitId, head: &CommitId) -> Result<Vec<FileChange>> {
        Ok(self.changes(base, head, &[], 0).await?.into_iter().map(|(change, _)| change).collect())
    }

    /// The changed files, each with its patch. A patch over the limit of a file, or once all
    /// together pass the limit of a whole patch, is [`Patch::TooLarge`].
    pub async fn file_patches(&self, base: &CommitId, head: &CommitId) -> Result<Vec<(FileChange, Patch)>> {
        let keep = self.limits.max_file_bytes;
        self.changes(base, head, &[], keep).await
    }

    /// The changed files with their numbers of lines; the size of their patches is not known.
    pub async fn changed_files(&self, base: &CommitId, head: &CommitId) -> Result<Vec<FileChange>> {
        self.listed(base, head, &[]).await
    }

    /// One changed file with its patch, none if it did not change; for a renamed one name its old path too.
    pub async fn changed_file(
        &self,
        base: &CommitId,
        head: &CommitId,
        path: &RepoPath,
        old_path: Option<&RepoPath>,
    ) -> Result<Option<(FileChange, Patch)>> {
        let paths: Vec<&RepoPath> = std::iter::once(path).chain(old_path).collect();
        let found = self.changes(base, head, &paths, self.limits.max_file_bytes).await?;
        Ok(found.into_iter().find(|(change, _)| change.path == *path))
    }

    /// The patch of one changed file; for a renamed one name its old path too.
    pub async fn file_patch(
        &self,
        base: &CommitId,
        head: &CommitId,
        path: &RepoPath,
        old_path: Option<&RepoPath>,
    ) -> Result<Patch> {
        self.changed_file(base, head, path, old_path).await?.map(|(_, patch)| patch).ok_or_else(|| {
            GitError::new(crate::GitErrorKind::NotFound, "FILE_NOT_CHANGED", format!("{path} did not change"))
        })
    }

    /// All patches as one, to be applied with `git apply` to a tree at `base`.
    pub async fn full_patch(&self, base: &CommitId, head: &CommitId) -> Result<Bytes> {
        let limits = self.local(self.limits.max_patch_bytes);
        Ok(self.diff(base, head, &[]).args(PATCH_ARGS).limits(limits).run().await?.stdout)
    }

    /// The same patch, piece by piece and of any size.
    ///
    /// # Errors
    /// When git cannot be started.
    pub fn stream_patch(&self, base: &CommitId, head: &CommitId, limits: RunLimits) -> Result<Piped> {
        self.diff(base, head, &[]).args(PATCH_ARGS).limits(limits).pipe(&[], None)
    }

    async fn listed(&self, base: &CommitId, head: &CommitId, paths: &[&RepoPath]) -> Result<Vec<FileChange>> {
        let max_files = self.limits.max_changed_files;
        let listed = self
            .diff(base, head, paths)
            .args(["--raw", "--numstat", "-z"])
            .limits(self.local(max_files.saturating_mul(512).max(1 << 20)))
            .run()
            .await?;
        let changes = parse(&listed.stdout).ok_or_else(unreadable)?;
        if changes.len() as u64 > max_files {
            return Err(GitError::too_large("changed files", changes.len(), max_files));
        }
        Ok(changes)
    }

    async fn changes(
        &self,
        base: &CommitId,
        head: &CommitId,
        paths: &[&RepoPath],
        keep: u64,
    ) -> Result<Vec<(FileChange, Patch)>> {
        let mut changes = self.listed(base, head, paths).await?;
        let bound = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let mut splitter = Splitter::new(bound(keep), bound(self.limits.max_patch_bytes));
        let mut sink = |piece: &[u8]| {
            splitter.push(piece);
            Ok(())
        };
        // Only what is kept costs memory, so the stream itself is bounded by time.
        self.diff(base, head, paths).args(PATCH_ARGS).limits(self.local(u64::MAX)).stream(&mut sink).await?;
        let mut sections = splitter.finish().into_iter();
        let mut out = Vec::with_capacity(changes.len());
        for mut change in changes.drain(..) {
            let mut patch = section(sections.next().ok_or_else(unreadable)?, &mut change);
            if change.kind == ChangeKind::TypeChanged {
                // Written as a deletion and a creation.
                patch = join(patch, section(sections.next().ok_or_else(unreadable)?, &mut change));
                if let (Patch::Bytes(b), true) = (&patch, keep < change.patch_size) {
                    patch = Patch::TooLarge { size: b.len() as u64 };
                }
            }
            out.push((change, patch));
        }
        if sections.next().is_some() { Err(unreadable()) } else { Ok(out) }
    }

    fn diff(&self, base: &CommitId, head: &CommitId, paths: &[&RepoPath]) -> GitCommand {
        self.command("diff-tree")
            // Read by git 2.41 and newer; a bare repository has no other attributes before that.
            .env("GIT_ATTR_SOURCE", empty_tree(base))
            .config("core.bigFileThreshold", "32m")
            .args(["-r", "-M", "-l2000", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index"])
            .args([
                "--no-relative",
                "--ignore-submodules=none",
                "--submodule=short",
                "--diff-algorithm=histogram",
            ])
            .operands([base.as_str(), head.as_str()])
            .paths(paths.iter().map(|p| p.as_os_str()))
    }
}

/// The id of the empty tree in the object format of a commit.
pub(super) fn empty_tree(of: &CommitId) -> &'static str {
    if of.as_str().len() == 64 { EMPTY_TREE_SHA256 } else { EMPTY_TREE_SHA1 }
}

const PATCH_ARGS: [&str; 5] = ["--patch", "--binary", "--unified=3", "--src-prefix=a/", "--dst-prefix=b/"];

fn unreadable() -> GitError {
    GitError::failed("unexpected output of git diff-tree")
}

fn section(section: Section, change: &mut FileChange) -> Patch {
    change.patch_size += section.size;
    match section.kept {
        Some(bytes) => Patch::Bytes(bytes.into()),
        None => Patch::TooLarge { size: section.size },
    }
}

fn join(first: Patch, second: Patch) -> Patch {
    match (first, second) {
        (Patch::Bytes(a), Patch::Bytes(b)) => Patch::Bytes([a, b].concat().into()),
        (a, b) => Patch::TooLarge { size: a.size() + b.size() },
    }
}

impl Patch {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(b) => b.len() as u64,
            Self::TooLarge { size } => *size,
        }
    }
}

/// Reads `--raw --numstat -z`: all raw records, then as many numstat records in the same order.
fn parse(out: &[u8]) -> Option<Vec<FileChange>> {
    let mut fields = out.split(|b| *b == 0).peekable();
    let mut changes = Vec::new();
    while fields.peek().is_some_and(|f| f.starts_with(b":")) {
        changes.push(raw(fields.next()?, &mut fields)?);
    }
    for change in &mut changes {
        let mut columns = fields.next()?.splitn(3, |b| *b == b'\t');
        let (added, deleted, path) = (columns.next()?, columns.next()?, columns.next()?);
        if path.is_empty() {
            // A rename: both paths follow.
            fields.next()?;
            fields.next()?;
        }
        change.binary = added == b"-";
        change.additions = number(added, 10).unwrap_or(0);
        change.deletions = number(deleted, 10).unwrap_or(0);
    }
    (fields.next() == Some(b"") && fields.next().is_none() || changes.is_empty()).then_some(changes)
}

/// `:<old mode> <new mode> <old id> <new id> <status>`, then one path or, for a rename, two.
fn raw<'a>(head: &[u8], fields: &mut impl Iterator<Item = &'a [u8]>) -> Option<FileChange> {
    let columns: Vec<&[u8]> = head.strip_prefix(b":")?.split(|b| *b == b' ').collect();
    let [old_mode, new_mode, old_id, new_id, status] = columns.as_slice() else { return None };
    let (old_mode_bits, new_mode_bits) = (number(old_mode, 8)?, number(new_mode, 8)?);
    let first = RepoPath::from_bytes(fields.next()?).ok()?;
    let (kind, path, old_path) = match status.first()? {
        b'A' => (ChangeKind::Added, first, None),
        b'D' => (ChangeKind::Deleted, first, None),
        b'T' => (ChangeKind::TypeChanged, first, None),
        b'M' if old_id == new_id => (ChangeKind::ModeChanged, first, None),
        b'M' => (ChangeKind::Modified, first, None),
        b'R' => (ChangeKind::Renamed, RepoPath::from_bytes(fields.next()?).ok()?, Some(first)),
        _ => return None,
    };
    let new_object = (kind != ChangeKind::Deleted)
        .then(|| std::str::from_utf8(new_id).ok().and_then(|id| ObjectId::parse(id).ok()))
        .flatten();
    Some(FileChange {
        path,
        old_path,
        kind,
        old_mode: u32::try_from(old_mode_bits).ok()?,
        new_mode: u32::try_from(new_mode_bits).ok()?,
        new_object,
        additions: 0,
        deletions: 0,
        binary: false,
        patch_size: 0,
    })
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::ffi::OsStr::from_bytes(text).to_str()?, radix).ok()
}
