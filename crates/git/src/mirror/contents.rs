//! What a mirror holds before a fetch, so that all of it can be undone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Mirror, blocking, remove_if_there, walk};
use crate::{GitError, Result};

/// The refs of the remote and the files with objects. Valid as long as the mirror's lock is held.
pub(super) struct Contents {
    /// Bytes of all files of the mirror.
    pub(super) size: u64,
    objects: BTreeSet<PathBuf>,
    /// Ids by names, which may not be UTF-8.
    refs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Contents {
    pub(super) async fn of(mirror: &Mirror) -> Result<Self> {
        let dir = mirror.dir.clone();
        let (size, objects) = blocking(move || files(&dir)).await?.map_err(|e| failed(&e))?;
        Ok(Self { size, objects, refs: refs(mirror).await? })
    }

    /// Removes the objects that have come since, after everything that refers to them.
    pub(super) async fn restore(self, mirror: &Mirror) -> Result<()> {
        let mut script = Vec::new();
        for name in refs(mirror).await?.keys().filter(|name| !self.refs.contains_key(*name)) {
            script.extend([b"delete ", name.as_slice(), b"\n"].concat());
        }
        for (name, id) in &self.refs {
            script.extend([b"update ", name.as_slice(), b" ", id, b"\n"].concat());
        }
        let update = mirror.command("update-ref").args(["--no-deref", "--stdin"]).stdin(script);
        update.run().await?;
        let dir = mirror.dir.clone();
        let (_, now) = blocking(move || files(&dir)).await?.map_err(|e| failed(&e))?;
        let added: Vec<PathBuf> = now.difference(&self.objects).cloned().collect();
        blocking(move || added.iter().try_for_each(|path| remove_if_there(path)))
            .await?
            .map_err(|e| failed(&e))
    }
}

fn failed(e: &std::io::Error) -> GitError {
    GitError::io("cannot undo a fetch", e)
}

fn files(dir: &Path) -> std::io::Result<(u64, BTreeSet<PathBuf>)> {
    let (mut size, mut objects) = (0, BTreeSet::new());
    let (below, others) = (dir.join("objects"), [super::LFS, super::MODULES].map(|name| dir.join(name)));
    walk(dir, &mut |path, meta| {
        if others.iter().any(|other| path.starts_with(other)) {
            return Ok(());
        }
        size += meta.len();
        if path.starts_with(&below) {
            objects.insert(path.to_owned());
        }
        Ok(())
    })?;
    Ok((size, objects))
}

async fn refs(mirror: &Mirror) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let list = mirror
        .command("for-each-ref")
        .args(["--format=%(objectname) %(refname)", "refs/heads/", "refs/tags/"])
        .limits(mirror.local(64 << 20));
    let out = list.run().await?;
    let named = out.stdout.split(|b| *b == b'\n').filter_map(|line| {
        let space = line.iter().position(|b| *b == b' ')?;
        Some((line[space + 1..].to_vec(), line[..space].to_vec()))
    });
    Ok(named.collect())
}
