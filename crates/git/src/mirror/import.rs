//! Importing the bundle that a sandbox made. The bundle is treated as hostile: its header is parsed here, its pack is
//! checked in quarantine, and no ref moves before all checks have passed.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

use super::lfs::{Enclosed, LfsLeftOut};
use super::quarantine::Quarantine;
use super::{FileChange, Mirror, Revision, blocking};
use crate::process::Input;
use crate::{CommitId, GitError, GitErrorKind, Result, RunLimits, WorkName};

/// Longest header: one ref and some thousand prerequisites.
pub(super) const MAX_HEADER_BYTES: u64 = 1 << 20;

/// Bounds of one import.
#[derive(Clone, Copy, Debug)]
pub struct ImportLimits {
    /// The bundle file. Default 256 MiB.
    pub bundle_bytes: u64,
    /// One file in it, unpacked. Default 64 MiB.
    pub file_bytes: u64,
    /// All objects in it, unpacked. Default 1 GiB.
    pub total_bytes: u64,
    /// Objects in it. Default 200,000.
    pub objects: u64,
    /// Wall clock of each step. Default 2 minutes.
    pub wall: Duration,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self {
            bundle_bytes: 256 << 20,
            file_bytes: 64 << 20,
            total_bytes: 1 << 30,
            objects: 200_000,
            wall: Duration::from_secs(120),
        }
    }
}

/// Work that is now in the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedWork {
    /// The commit with the whole work tree.
    pub head: CommitId,
    /// The commit it is compared with.
    pub base: CommitId,
    /// Whether the base is an ancestor of the head (an agent may have rewritten history).
    pub descends_from_base: bool,
    /// What changed between base and head.
    pub changes: Vec<FileChange>,
    /// Objects of Git LFS that came with it and are not in the mirror.
    pub lfs_left_out: Option<LfsLeftOut>,
}

struct Header {
    head: CommitId,
    prerequisites: Vec<CommitId>,
    pack_offset: u64,
}

impl Mirror {
    /// Imports the one ref `refs/foundry/work/<work>` of a bundle, and the objects of Git LFS before it; one that is not what
    /// it says, or for which there is no room, is left out. On any error no ref has changed and no object of git stays. Repeating it with the same bundle gives the same answer.
    pub async fn import_bundle(
        &self,
        work: &WorkName,
        bundle: &Path,
        base: &CommitId,
        limits: &ImportLimits,
    ) -> Result<ImportedWork> {
        let path = bundle.to_owned();
        let file = blocking(move || {
            // The directory may be the sandbox's: no link is followed, and a FIFO does not block.
            let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
            File::options().read(true).custom_flags(flags).open(path)
        })
        .await?
        .map_err(|e| match rustix::io::Errno::from_io_error(&e) {
            Some(rustix::io::Errno::LOOP) => refused("is not a regular file"),
            _ => GitError::io("cannot open the bundle", &e),
        })?;
        self.import_bundle_file(work, file, base, limits).await
    }

    /// As [`Mirror::import_bundle`], from a file that is open already.
    pub async fn import_bundle_file(
        &self,
        work: &WorkName,
        file: File,
        base: &CommitId,
        limits: &ImportLimits,
    ) -> Result<ImportedWork> {
        let meta = file.metadata().map_err(|e| GitError::io("cannot read the bundle", &e))?;
        if !meta.is_file() {
            return Err(refused("is not a regular file"));
        }
        if meta.len() > limits.bundle_bytes {
            return Err(GitError::too_large("size of the bundle in bytes", meta.len(), limits.bundle_bytes));
        }
        let expected = work.work_ref();
        let (objects, header, file) = blocking(move || {
            let (objects, file) = Enclosed::read(file)?;
            let (header, file) = read_header(file, objects.end, &expected)?;
            Ok::<_, GitError>((objects, header, file))
        })
        .await??;
        let copy = file.try_clone().map_err(|e| GitError::io("cannot read the bundle", &e))?;
        self.resolve(&Revision::Commit(base.clone())).await?;

        let _lock = self.lock().await?;
        let known = self.resolve(&Revision::Work(work.clone())).await.ok();
        let mut imported = if known.as_ref() == Some(&header.head) {
            self.compare(base, &header.head).await?
        } else {
            let (quarantine, inside) = Quarantine::open(self).await?;
            match inside.examine(base, &header, file, limits).await {
                Ok(imported) => {
                    quarantine.release().await?;
                    imported
                }
                Err(e) => {
                    quarantine.discard().await?;
                    return Err(e);
                }
            }
        };
        imported.lfs_left_out = self.take_lfs(copy, &objects, &header.head).await?;
        self.set_work_refs(work, base, &header.head).await?;
        Ok(imported)
    }

    async fn compare(&self, base: &CommitId, head: &CommitId) -> Result<ImportedWork> {
        Ok(ImportedWork {
            changes: self.diff_stat(base, head).await?,
            descends_from_base: self.is_ancestor(base, head).await?,
            head: head.clone(),
            base: base.clone(),
            lfs_left_out: None,
        })
    }

    /// Whether one commit is reachable from the other.
    pub async fn is_ancestor(&self, ancestor: &CommitId, descendant: &CommitId) -> Result<bool> {
        let out = self
            .command("merge-base")
            .args(["--is-ancestor"])
            .operands([ancestor.as_str(), descendant.as_str()])
            .run_any()
            .await?;
        match out.code {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err(GitError::from_exit("merge-base", "failed", out.stderr)),
        }
    }

    /// Takes the pack into quarantine (`self` is the mirror seen from there) and checks all of it.
    async fn examine(
        &self,
        base: &CommitId,
        header: &Header,
        mut file: File,
        limits: &ImportLimits,
    ) -> Result<ImportedWork> {
        for commit in &header.prerequisites {
            self.resolve(&Revision::Commit(commit.clone()))
                .await
                .map_err(|e| refused_unless_host(e, "needs commits that the repository does not have"))?;
        }
        file.seek(SeekFrom::Start(header.pack_offset))
            .map_err(|e| GitError::io("cannot read the bundle", &e))?;
        let run = RunLimits {
            wall: limits.wall,
            stdout: limits.objects.saturating_mul(70).saturating_add(4096),
            // Thin packs are completed with their delta bases, which may be large.
            file: Some(limits.bundle_bytes.saturating_mul(4)),
            memory: Some(self.limits.memory),
        };
        // `--strict` turns fsck warnings into errors and rejects links to missing objects.
        self.command("index-pack")
            .args(["--stdin", "--fix-thin", "--strict", "--threads=1"])
            .args([format!("--max-input-size={}", limits.bundle_bytes)])
            .input(Input::File(file))
            .limits(run)
            .run()
            .await
            .map_err(refused_if_failed)?;
        self.resolve(&Revision::Commit(header.head.clone()))
            .await
            .map_err(|e| refused_unless_host(e, "has a ref that is not a commit"))?;
        // Walks all new objects: proves that none is missing, and lists them for measuring.
        let new = self
            .command("rev-list")
            .args(["--objects", "--no-object-names", header.head.as_str(), "--not", "--all"])
            .limits(run)
            .run()
            .await
            .map_err(refused_if_failed)?;
        let sizes = self
            .command("cat-file")
            .args(["--batch-check=%(objecttype) %(objectsize)"])
            .stdin(new.stdout)
            .limits(run)
            .run()
            .await?;
        measure(&String::from_utf8_lossy(&sizes.stdout), limits)?;
        self.compare(base, &header.head).await
    }
}

fn measure(lines: &str, limits: &ImportLimits) -> Result<()> {
    let (mut objects, mut total) = (0u64, 0u64);
    for line in lines.lines() {
        let (kind, size) = line.split_once(' ').ok_or_else(|| refused("lists an unreadable object"))?;
        let size: u64 = size.parse().map_err(|_| refused("is missing an object"))?;
        if kind == "blob" && size > limits.file_bytes {
            return Err(GitError::too_large("size of a file in bytes", size, limits.file_bytes));
        }
        objects += 1;
        total = total.saturating_add(size);
    }
    if objects > limits.objects {
        return Err(GitError::too_large("objects in the bundle", objects, limits.objects));
    }
    if total > limits.total_bytes {
        return Err(GitError::too_large("unpacked size of the bundle", total, limits.total_bytes));
    }
    Ok(())
}

pub(super) fn refused(why: &str) -> GitError {
    GitError::corrupt("BUNDLE_REFUSED", format!("the bundle {why}"))
}

/// Blames the bundle for a commit that is not found, unless the host or its load caused the error.
fn refused_unless_host(e: GitError, why: &str) -> GitError {
    if e.retryable() { e } else { refused(why).with_stderr(e.stderr()) }
}

fn refused_if_failed(e: GitError) -> GitError {
    match e.kind() {
        // `early EOF` means a lost connection elsewhere and a truncated file here.
        GitErrorKind::Failed | GitErrorKind::Corrupt | GitErrorKind::NotFound | GitErrorKind::Unreachable => {
            refused("contains corrupt, incomplete or forbidden objects").with_stderr(e.stderr())
        }
        _ => e,
    }
}

/// Reads the header of the bundle that begins at `start` (`gitformat-bundle`), versions 2 and 3 without filters.
fn read_header(mut file: File, start: u64, expected_ref: &str) -> Result<(Header, File)> {
    file.seek(SeekFrom::Start(start)).map_err(|e| GitError::io("cannot read the bundle", &e))?;
    let mut reader = BufReader::new(file).take(MAX_HEADER_BYTES);
    let mut offset = start;
    let mut line = Vec::new();
    let mut next = |line: &mut Vec<u8>| -> Result<()> {
        line.clear();
        let n = reader.read_until(b'\n', line).map_err(|e| GitError::io("cannot read the bundle", &e))?;
        offset += n as u64;
        if line.pop() == Some(b'\n') { Ok(()) } else { Err(refused("has an incomplete header")) }
    };
    next(&mut line)?;
    let v3 = match line.as_slice() {
        b"# v2 git bundle" => false,
        b"# v3 git bundle" => true,
        _ => return Err(refused("is not a version 2 or 3 bundle")),
    };
    let mut prerequisites = Vec::new();
    let mut head = None;
    loop {
        next(&mut line)?;
        let text = std::str::from_utf8(&line).unwrap_or("\u{fffd}");
        if text.is_empty() {
            break;
        } else if let Some(capability) = text.strip_prefix('@') {
            if !v3 || !matches!(capability, "object-format=sha1" | "object-format=sha256") {
                return Err(refused("requires an unsupported capability"));
            }
        } else if let Some(rest) = line.strip_prefix(b"-") {
            // A subject may follow the id, in any encoding.
            let id = rest.split(|b| *b == b' ').next().unwrap_or_default();
            let id = CommitId::parse(&String::from_utf8_lossy(id));
            prerequisites.push(id.map_err(|_| refused("has a malformed prerequisite"))?);
        } else {
            let (id, name) = text.split_once(' ').ok_or_else(|| refused("has a malformed ref line"))?;
            let id = CommitId::parse(id).map_err(|_| refused("has a malformed ref line"))?;
            if name != expected_ref || head.replace(id).is_some() {
                return Err(refused("contains refs other than the expected one"));
            }
        }
    }
    let head = head.ok_or_else(|| refused("contains no ref"))?;
    Ok((Header { head, prerequisites, pack_offset: offset }, reader.into_inner().into_inner()))
}
