//! Bounded reads of trees, files and objects.

use bytes::Bytes;

use super::Mirror;
use crate::{CommitId, GitError, GitErrorKind, ObjectId, RepoPath, Result};

/// Most bytes of one directory's listing that are read.
const MAX_LISTING_BYTES: u64 = 32 << 20;

/// The kind of a tree entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A directory, whose own entries are listed separately.
    Directory,
    /// A regular file.
    File,
    /// A regular file that may be executed.
    Executable,
    /// A symbolic link; its content is the target, which is never followed.
    Symlink,
    /// A submodule: a commit of another repository.
    Submodule,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TreeEntry {
    /// Path from the top of the repository.
    pub path: RepoPath,
    /// The kind of the entry.
    pub kind: EntryKind,
    /// The id of its content.
    pub object: ObjectId,
    /// Size of a file or link in bytes; `None` for a directory or submodule.
    pub size: Option<u64>,
}

/// A part of a directory listing. A commit never changes, so neither does the listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreePage {
    /// Directories first, then by name.
    pub entries: Vec<TreeEntry>,
    /// Where the next page starts, if there is one.
    pub next_offset: Option<usize>,
    /// Entries of the directory in all.
    pub total: usize,
}

/// A file as it was in one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// The kind of the file; never a directory or submodule.
    pub kind: EntryKind,
    /// The id of its content.
    pub object: ObjectId,
    /// The whole content, at most the file limit of the mirror.
    pub bytes: Bytes,
    /// Whether it looks binary: a NUL in its first 8,000 bytes, as git judges.
    pub binary: bool,
}

/// The kind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// The content of a file.
    Blob,
    /// The listing of a directory.
    Tree,
    /// A commit with its message, tree and parents.
    Commit,
    /// An annotated tag.
    Tag,
}

/// An object read by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The kind of the object.
    pub kind: ObjectKind,
    /// Its raw content.
    pub bytes: Bytes,
}

impl Mirror {
    /// The entries of one directory (`None`: the top) in a commit.
    pub async fn list_tree(
        &self,
        commit: &CommitId,
        dir: Option<&RepoPath>,
        offset: usize,
        page_size: usize,
    ) -> Result<TreePage> {
        let tree = match dir {
            None => commit.to_object(),
            Some(path) => {
                let entry = self.entry(commit, path).await?;
                if entry.kind != EntryKind::Directory {
                    return Err(wrong_kind(path, "is not a directory"));
                }
                entry.object
            }
        };
        let mut all = self.ls_tree(tree.as_str(), None, dir).await?;
        all.sort_by(|a, b| {
            let file = |e: &TreeEntry| e.kind != EntryKind::Directory;
            (file(a), &a.path).cmp(&(file(b), &b.path))
        });
        let total = all.len();
        let entries: Vec<TreeEntry> = all.into_iter().skip(offset).take(page_size).collect();
        let end = offset.saturating_add(entries.len());
        Ok(TreePage { next_offset: (end < total && !entries.is_empty()).then_some(end), entries, total })
    }

    /// The content of one file, up to the limit of a file.
    pub async fn read_file(&self, commit: &CommitId, path: &RepoPath) -> Result<FileContent> {
        let entry = self.entry(commit, path).await?;
        if matches!(entry.kind, EntryKind::Directory | EntryKind::Submodule) {
            return Err(wrong_kind(path, "is not a file"));
        }
        let maximum = self.limits.max_file_bytes;
        if let Some(size) = entry.size.filter(|size| *size > maximum) {
            return Err(GitError::too_large(&format!("size of {path} in bytes"), size, maximum));
        }
        let bytes = self.object(&entry.object).await?.bytes;
        let binary = bytes.iter().take(8000).any(|b| *b == 0);
        Ok(FileContent { kind: entry.kind, object: entry.object, bytes, binary })
    }

    /// One object by id, up to the limit of a file.
    pub async fn object(&self, id: &ObjectId) -> Result<Object> {
        let maximum = self.limits.max_file_bytes;
        let out = self
            .command("cat-file")
            .args(["--batch"])
            .stdin(format!("{id}\n"))
            .limits(self.local(maximum.saturating_add(256)))
            .run()
            .await?
            .stdout;
        let end = out.iter().position(|b| *b == b'\n').unwrap_or(out.len());
        let header = String::from_utf8_lossy(&out[..end]).into_owned();
        let mut words = header.split(' ').skip(1);
        let kind = match words.next() {
            Some("blob") => ObjectKind::Blob,
            Some("tree") => ObjectKind::Tree,
            Some("commit") => ObjectKind::Commit,
            Some("tag") => ObjectKind::Tag,
            _ => {
                let text = format!("no object {id} in the repository");
                return Err(GitError::new(GitErrorKind::NotFound, "OBJECT_NOT_FOUND", text));
            }
        };
        let size: usize = words.next().and_then(|s| s.parse().ok()).unwrap_or(usize::MAX);
        if size as u64 > maximum {
            return Err(GitError::too_large("size of the object in bytes", size, maximum));
        }
        let start = end + 1;
        match out.len().checked_sub(start) {
            Some(rest) if rest > size => Ok(Object { kind, bytes: out.slice(start..start + size) }),
            _ => Err(GitError::failed("git cat-file ended early")),
        }
    }

    /// One entry of a commit: what is at a path, without following links.
    pub async fn entry(&self, commit: &CommitId, path: &RepoPath) -> Result<TreeEntry> {
        let found = self.ls_tree(commit.as_str(), Some(path), None).await?;
        found.into_iter().find(|e| e.path == *path).ok_or_else(|| {
            GitError::new(GitErrorKind::NotFound, "PATH_NOT_FOUND", format!("no {path} in this commit"))
        })
    }

    async fn ls_tree(
        &self,
        treeish: &str,
        path: Option<&RepoPath>,
        parent: Option<&RepoPath>,
    ) -> Result<Vec<TreeEntry>> {
        let out = self
            .command("ls-tree")
            .args(["-z", "-l", "--full-tree"])
            .limits(self.local(MAX_LISTING_BYTES))
            .operands([treeish])
            .paths(path.map(RepoPath::as_os_str))
            .run()
            .await
            .map_err(|e| {
                if e.stderr().contains("not a tree object") || e.stderr().contains("Not a valid object") {
                    let text = format!("no tree of {treeish} in the repository");
                    return GitError::new(GitErrorKind::NotFound, "OBJECT_NOT_FOUND", text);
                }
                e
            })?;
        out.stdout
            .split(|b| *b == 0)
            .filter(|record| !record.is_empty())
            .map(|record| {
                parse(record, parent).ok_or_else(|| GitError::failed("unexpected output of git ls-tree"))
            })
            .collect()
    }
}

/// `<mode> <type> <id> <size, padded>\t<path>`.
fn parse(record: &[u8], parent: Option<&RepoPath>) -> Option<TreeEntry> {
    let tab = record.iter().position(|b| *b == b'\t')?;
    let mut words = std::str::from_utf8(&record[..tab]).ok()?.split_ascii_whitespace();
    let kind = match words.next()? {
        "040000" => EntryKind::Directory,
        "120000" => EntryKind::Symlink,
        "160000" => EntryKind::Submodule,
        "100755" => EntryKind::Executable,
        _ => EntryKind::File,
    };
    let object = ObjectId::parse(words.nth(1)?).ok()?;
    let size = words.next()?.parse().ok();
    let mut path = parent.map_or_else(Vec::new, |p| [p.as_bytes(), b"/"].concat());
    path.extend_from_slice(&record[tab + 1..]);
    Some(TreeEntry { path: RepoPath::from_bytes(path).ok()?, kind, object, size })
}

fn wrong_kind(path: &RepoPath, what: &str) -> GitError {
    GitError::new(GitErrorKind::Invalid, "PATH_WRONG_KIND", format!("{path} {what}"))
}
