//! Objects from outside stay here until they have passed all checks: a separate object directory that can read the
//! mirror's objects, while the mirror cannot read its own.

use std::path::{Path, PathBuf};

use super::{Mirror, blocking, remove_tree, sync_parent};
use crate::{GitCommand, GitError, Result};

/// One at a time: only the holder of the mirror's lock has a quarantine.
pub(super) const DIR_NAME: &str = "foundry-quarantine";

pub(super) struct Quarantine {
    dir: PathBuf,
    objects: PathBuf,
}

impl Quarantine {
    /// An empty one, and the mirror as seen from inside it.
    pub(super) async fn open(mirror: &Mirror) -> Result<(Self, Mirror)> {
        let dir = mirror.dir.join(DIR_NAME);
        remove_tree(&dir).await?;
        tokio::fs::create_dir_all(dir.join("pack"))
            .await
            .map_err(|e| GitError::io("cannot create a quarantine", &e))?;
        let inside = Mirror { quarantine: Some(dir.clone()), ..mirror.clone() };
        Ok((Self { dir, objects: mirror.dir.join("objects") }, inside))
    }

    /// Moves the packs to the mirror. Each index goes last: git uses a pack once its index exists.
    pub(super) async fn release(self) -> Result<()> {
        let (from, to) = (self.dir.join("pack"), self.objects.join("pack"));
        let moved = to.clone();
        blocking(move || move_packs(&from, &moved))
            .await?
            .map_err(|e| GitError::io("cannot move objects out of quarantine", &e))?;
        sync_parent(&to.join("x")).await?;
        remove_tree(&self.dir).await
    }

    pub(super) async fn discard(self) -> Result<()> {
        remove_tree(&self.dir).await
    }
}

/// Lets a command read both object directories and write to the quarantine only.
pub(super) fn inside(command: GitCommand, quarantine: &Path, objects: &Path) -> GitCommand {
    command.env("GIT_OBJECT_DIRECTORY", quarantine).env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted(objects))
}

fn move_packs(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    let mut names: Vec<_> =
        std::fs::read_dir(from)?.map(|e| e.map(|e| e.file_name())).collect::<Result<_, _>>()?;
    names.retain(|n| n.as_encoded_bytes().starts_with(b"pack-"));
    names.sort_by_key(|n| n.as_encoded_bytes().ends_with(b".idx"));
    names.iter().try_for_each(|n| std::fs::rename(from.join(n), to.join(n)))
}

/// In the list of alternates `:` separates and a leading `"` starts a C-style string.
fn quoted(path: &Path) -> std::ffi::OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut out = vec![b'"'];
    for b in path.as_os_str().as_bytes() {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out.push(b'"');
    std::ffi::OsString::from_vec(out)
}
