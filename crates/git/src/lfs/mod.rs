//! Objects of Git LFS: pointers, and a store of the objects that they stand for, by their SHA-256. Nothing of `git lfs`
//! runs on this host: it would follow the settings of a repository, and any address that a server names.

mod client;
mod hosts;
mod local;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::TempPath;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) use client::{Answer, Asked, BATCH, Direction, Server};

use crate::mirror::blocking;
use crate::{GitError, GitErrorKind, Result};

/// The first line of a pointer.
const VERSION: &str = "version https://git-lfs.github.com/spec/v1";
/// Sizes that a pointer can have, in bytes: the shortest one, and the limit of its specification.
pub(crate) const POINTER_BYTES: std::ops::Range<u64> = 120..1024;
/// What is read of an object at once.
const PIECE: usize = 64 << 10;
/// What an interrupted operation has left goes after this time.
const STALE: std::time::Duration = std::time::Duration::from_secs(2 * 60 * 60);

/// An object that nothing points to goes after this time, as those of git do.
const KEPT: std::time::Duration = std::time::Duration::from_secs(14 * 24 * 60 * 60);

/// The program that a checkout runs for files of LFS: what it reads is a pointer, in whose place it writes the object, if
/// that is in the directory that `FOUNDRY_LFS_OBJECTS` names. Anything else it reads from the commit `FOUNDRY_BASE`.
pub(crate) const SMUDGE: &str = include_str!("smudge.sh");

/// A pointer: what a commit has in place of the content of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Pointer {
    /// The SHA-256 of the object, 64 lower-case digits.
    oid: String,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl Pointer {
    /// A pointer from its parts; `None` unless the id is one.
    pub(crate) fn new(oid: &str, size: u64) -> Option<Self> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (oid.len() == 64 && oid.bytes().all(digit)).then(|| Self { oid: oid.to_owned(), size })
    }

    /// Reads the content of a file; `None` when it is no pointer.
    pub(crate) fn parse(content: &[u8]) -> Option<Self> {
        if !POINTER_BYTES.contains(&(content.len() as u64)) {
            return None;
        }
        let mut lines = std::str::from_utf8(content).ok()?.lines();
        if lines.next()? != VERSION {
            return None;
        }
        let (mut oid, mut size) = (None, None);
        for line in lines {
            match line.split_once(' ')? {
                ("oid", value) => oid = value.strip_prefix("sha256:"),
                ("size", value) => size = value.parse().ok(),
                _ => {}
            }
        }
        Self::new(oid?, size?)
    }

    pub(crate) fn oid(&self) -> &str {
        &self.oid
    }

    /// Where its object is below a directory of objects, as `git lfs` has it.
    pub(crate) fn below(&self, objects: &Path) -> PathBuf {
        objects.join(&self.oid[..2]).join(&self.oid[2..4]).join(&self.oid)
    }
}

/// The objects of one repository. An object that is there is whole: it was checked before it got its name.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    /// Bytes of all objects.
    most: u64,
}

impl Store {
    /// The store in a directory, which need not exist.
    pub(crate) fn new(dir: PathBuf, most: u64) -> Self {
        Self { dir, most }
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.dir.join("objects")
    }

    pub(crate) fn path(&self, pointer: &Pointer) -> PathBuf {
        pointer.below(&self.objects())
    }

    pub(crate) fn has(&self, pointer: &Pointer) -> bool {
        let found = std::fs::symlink_metadata(self.path(pointer));
        found.is_ok_and(|meta| meta.is_file() && meta.len() == pointer.size)
    }

    /// Bytes that may still be added; removes what interrupted operations have left.
    pub(crate) async fn room(&self) -> Result<u64> {
        let (dir, incoming) = (self.objects(), self.incoming());
        let used = blocking(move || {
            for entry in std::fs::read_dir(incoming).into_iter().flatten().flatten() {
                let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
                if age.is_some_and(|age| age > STALE) {
                    // Another operation may do the same.
                    let _ = std::fs::remove_file(entry.path());
                }
            }
            let mut used = 0;
            crate::mirror::walk(&dir, &mut |_, meta| {
                used += meta.len();
                Ok(())
            })
            .map(|()| used)
        })
        .await?
        .map_err(|e| GitError::io("cannot measure the files of LFS", &e))?;
        Ok(self.most.saturating_sub(used))
    }

    /// Removes the objects older than two weeks that are none of these; returns how many. Younger ones may belong to what is
    /// just being imported.
    pub(crate) fn forget_others(&self, known: &[Pointer]) -> std::io::Result<u64> {
        let known: BTreeSet<&str> = known.iter().map(Pointer::oid).collect();
        let mut removed = 0;
        crate::mirror::walk(&self.objects(), &mut |path, meta| {
            let is_known = path.file_name().and_then(|name| name.to_str()).is_some_and(|n| known.contains(n));
            let is_old = meta.modified()?.elapsed().is_ok_and(|age| age > KEPT);
            if is_old && !is_known {
                std::fs::remove_file(path)?;
                removed += 1;
            }
            Ok(())
        })?;
        Ok(removed)
    }

    fn incoming(&self) -> PathBuf {
        self.dir.join("incoming")
    }

    /// Begins to take an object.
    pub(crate) async fn incoming_object(&self, pointer: &Pointer) -> Result<Incoming> {
        Incoming::begin(&self.incoming(), self.path(pointer), pointer, 0o600).await
    }

    /// Takes an object from what a reader has next.
    ///
    /// # Errors
    /// `LFS_OBJECT_CORRUPT` when it is not the object.
    pub(crate) async fn take(
        &self,
        pointer: &Pointer,
        from: &mut (impl tokio::io::AsyncRead + Unpin),
    ) -> Result<()> {
        let mut incoming = self.incoming_object(pointer).await?;
        copy(from, &mut incoming).await?;
        incoming.finish().await
    }
}

/// Writes what a reader has to an object.
pub(crate) async fn copy(from: &mut (impl tokio::io::AsyncRead + Unpin), to: &mut Incoming) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await.map_err(|e| failed(&e))?;
        if read == 0 {
            return Ok(());
        }
        to.write(&piece[..read]).await?;
    }
}

/// An object that is being taken: a file without its name until all of it is there.
pub(crate) struct Incoming {
    file: tokio::fs::File,
    temporary: TempPath,
    path: PathBuf,
    digest: Sha256,
    left: u64,
    oid: String,
}

impl Incoming {
    /// A temporary file in `incoming`, which becomes `path`; both are on one file system. Its mode is restricted by the umask.
    pub(crate) async fn begin(incoming: &Path, path: PathBuf, pointer: &Pointer, mode: u32) -> Result<Self> {
        let (incoming, parent) = (incoming.to_owned(), path.parent().map(Path::to_owned).unwrap_or_default());
        let made = blocking(move || {
            std::fs::create_dir_all(&incoming)?;
            std::fs::create_dir_all(parent)?;
            let mode = std::fs::Permissions::from_mode(mode);
            tempfile::Builder::new().prefix("object-").permissions(mode).tempfile_in(incoming)
        });
        let (file, temporary) = made.await?.map_err(|e| failed(&e))?.into_parts();
        let file = tokio::fs::File::from_std(file);
        let (left, oid) = (pointer.size, pointer.oid.clone());
        Ok(Self { file, temporary, path, digest: Sha256::new(), left, oid })
    }

    /// Adds a piece; an error as soon as there is more than the object has.
    pub(crate) async fn write(&mut self, piece: &[u8]) -> Result<()> {
        let left = self.left.checked_sub(piece.len() as u64);
        self.left = left.ok_or_else(|| corrupt(&self.oid, "is longer than its pointer says"))?;
        self.digest.update(piece);
        self.file.write_all(piece).await.map_err(|e| failed(&e))
    }

    /// Gives it its name, if it is the object.
    pub(crate) async fn finish(mut self) -> Result<()> {
        if self.left > 0 {
            return Err(corrupt(&self.oid, "is shorter than its pointer says"));
        }
        if hex::encode(self.digest.finalize()) != self.oid {
            return Err(corrupt(&self.oid, "has another content than its pointer says"));
        }
        self.file.flush().await.map_err(|e| failed(&e))?;
        self.file.sync_all().await.map_err(|e| failed(&e))?;
        let (temporary, path) = (self.temporary, self.path);
        blocking(move || temporary.persist(path)).await?.map_err(|e| failed(&e.error))
    }
}

fn corrupt(oid: &str, what: &str) -> GitError {
    GitError::new(GitErrorKind::Corrupt, "LFS_OBJECT_CORRUPT", format!("the LFS object {oid} {what}"))
}

fn failed(e: &std::io::Error) -> GitError {
    GitError::io("cannot store an LFS object", e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pointers_and_nothing_that_looks_like_one() {
        let oid = "ab".repeat(32);
        let text = format!("{VERSION}\noid sha256:{oid}\nsize 12\n");
        let pointer = Pointer::parse(text.as_bytes()).unwrap();
        assert_eq!((pointer.oid(), pointer.size), (oid.as_str(), 12));
        let below = pointer.below(Path::new("/o"));
        assert_eq!(below, Path::new("/o/ab/ab").join(&oid));
        let extended = format!("{VERSION}\next-0-x sha256:{oid}\noid sha256:{oid}\nsize 1\n");
        assert!(Pointer::parse(extended.as_bytes()).is_some());
        for other in [
            format!("{VERSION}\noid sha256:{}\nsize 12\n", "../".repeat(22)),
            format!("{VERSION}\noid sha256:{}\nsize 12\n", oid.to_uppercase()),
            format!("{VERSION}\noid sha256:{oid}\nsize -12\n"),
            format!("{VERSION}\noid sha256:{oid}\n{}\n", " ".repeat(20)),
            format!("# {VERSION}\noid sha256:{oid}\nsize 12\n"),
            format!("{text}{}", "x".repeat(1000)),
        ] {
            assert_eq!(Pointer::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[tokio::test]
    async fn an_object_gets_its_name_only_when_it_is_whole_and_the_right_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("lfs"), 100);
        let content = b"the content".as_slice();
        let pointer = |size: u64| Pointer::new(&hex::encode(Sha256::digest(content)), size).unwrap();
        for (bytes, size) in [("the content", 12), ("the content", 5), ("the contend", 11), ("", 11)] {
            let error = store.take(&pointer(size), &mut bytes.as_bytes()).await.unwrap_err();
            assert_eq!(error.reason(), "LFS_OBJECT_CORRUPT", "{bytes} {size}");
            assert!(!store.has(&pointer(size)), "{bytes} {size}");
        }
        store.take(&pointer(11), &mut &content[..]).await.unwrap();
        assert!(store.has(&pointer(11)) && !store.has(&pointer(12)));
        assert_eq!(store.room().await.unwrap(), 89);
        assert_eq!(std::fs::read_dir(store.incoming()).unwrap().count(), 0);
    }
}
