//! The session's working directory. Files are opened beneath a directory handle, so that neither
//! `..` nor a symbolic link leads out of it, and written whole: a temporary name, then a rename.

use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};

/// The largest file that is edited as text.
const MAX_TEXT: u64 = 4 << 20;

/// Why an edit was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    #[error("{0} is outside the working directory; nothing was changed")]
    Outside(String),
    #[error("there is no file {0}")]
    Missing(String),
    #[error("{0} is a directory")]
    Directory(String),
    #[error("{0} is not a text file")]
    NotText(String),
    #[error("{0} is larger than 4 MiB")]
    TooLarge(String),
    #[error("{0} already exists")]
    Exists(String),
    #[error("{file} does not contain “{wanted}”")]
    NotFound { file: String, wanted: String },
    #[error("{file}: {source}")]
    Io { file: String, source: io::Error },
}

/// The one directory a session may change.
pub(crate) struct Workspace {
    root: PathBuf,
    dir: Dir,
}

impl Workspace {
    /// Opens an existing directory given by an absolute path.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        if !root.is_absolute() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the working directory must be an absolute path",
            ));
        }
        Ok(Self { root: root.to_owned(), dir: Dir::open_ambient_dir(root, ambient_authority())? })
    }

    /// The absolute path of the directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The absolute path of a file, for showing it.
    pub(crate) fn absolute(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// The text of a file; `None` when it does not exist.
    pub(crate) fn read(&self, file: &str) -> Result<Option<String>, EditError> {
        let path = self.beneath(file)?;
        let meta = match self.dir.metadata(&path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(file, e)),
        };
        if meta.is_dir() {
            return Err(EditError::Directory(file.to_owned()));
        }
        if !meta.is_file() {
            return Err(EditError::NotText(file.to_owned()));
        }
        if meta.len() > MAX_TEXT {
            return Err(EditError::TooLarge(file.to_owned()));
        }
        let bytes = self.dir.read(&path).map_err(|e| failed(file, e))?;
        String::from_utf8(bytes).map(Some).map_err(|_| EditError::NotText(file.to_owned()))
    }

    /// The text of a file that must exist.
    pub(crate) fn read_existing(&self, file: &str) -> Result<String, EditError> {
        self.read(file)?.ok_or_else(|| EditError::Missing(file.to_owned()))
    }

    /// Replaces a file whole, or creates it with the directories above it. Keeps its permissions,
    /// and changes what a symbolic link points at rather than the link.
    pub(crate) fn write(&self, file: &str, content: &str) -> Result<(), EditError> {
        let mut path = self.beneath(file)?;
        if self.dir.symlink_metadata(&path).is_ok_and(|m| m.is_symlink()) {
            path = self.dir.canonicalize(&path).map_err(|e| failed(file, e))?;
        }
        self.replace(&path, content).map_err(|e| failed(file, e))
    }

    fn replace(&self, path: &Path, content: &str) -> io::Result<()> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        self.make_parent(path)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".demo-agent-tmp");
        let temporary = path.with_file_name(hidden);
        let written = (|| {
            // A file left by a killed turn is in the way: it is removed first.
            let _ = self.dir.remove_file(&temporary);
            let mut out = self.dir.open_with(&temporary, OpenOptions::new().write(true).create_new(true))?;
            out.write_all(content.as_bytes())?;
            if let Ok(meta) = self.dir.metadata(path) {
                out.set_permissions(meta.permissions())?;
            }
            self.dir.rename(&temporary, &self.dir, path)
        })();
        if written.is_err() {
            let _ = self.dir.remove_file(&temporary);
        }
        written
    }

    /// Deletes a file (not a directory).
    pub(crate) fn delete(&self, file: &str) -> Result<(), EditError> {
        let path = self.beneath(file)?;
        match self.dir.symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => Err(EditError::Directory(file.to_owned())),
            Ok(_) => self.dir.remove_file(&path).map_err(|e| failed(file, e)),
            Err(e) => Err(failed(file, e)),
        }
    }

    /// Gives a file another name; never over an existing one.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), EditError> {
        let (source, target) = (self.beneath(from)?, self.beneath(to)?);
        self.dir.symlink_metadata(&source).map_err(|e| failed(from, e))?;
        if self.dir.symlink_metadata(&target).is_ok() {
            return Err(EditError::Exists(to.to_owned()));
        }
        self.make_parent(&target).map_err(|e| failed(to, e))?;
        self.dir.rename(&source, &self.dir, &target).map_err(|e| failed(to, e))
    }

    /// Creates the directories above a file where they are missing.
    fn make_parent(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) else { return Ok(()) };
        match self.dir.metadata(parent) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.dir.create_dir_all(parent),
            other => other.map(drop),
        }
    }

    /// The first of these names that is a file.
    pub(crate) fn first_file<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.dir.metadata(name).is_ok_and(|m| m.is_file()))
    }

    /// The path below the directory, refused when its words alone lead out of it.
    fn beneath(&self, file: &str) -> Result<PathBuf, EditError> {
        let path = Path::new(file);
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        let mut clean = PathBuf::new();
        for part in path.components() {
            match part {
                Component::Normal(name) => clean.push(name),
                Component::CurDir => {}
                _ => return Err(EditError::Outside(file.to_owned())),
            }
        }
        if clean.as_os_str().is_empty() {
            return Err(EditError::Directory(file.to_owned()));
        }
        Ok(clean)
    }
}

fn failed(file: &str, source: io::Error) -> EditError {
    match source.kind() {
        io::ErrorKind::NotFound => EditError::Missing(file.to_owned()),
        io::ErrorKind::IsADirectory => EditError::Directory(file.to_owned()),
        // cap-std's own error, without a code of the system, for a path that leads out through a link.
        io::ErrorKind::PermissionDenied if source.raw_os_error().is_none() => {
            EditError::Outside(file.to_owned())
        }
        _ => EditError::Io { file: file.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn workspace() -> (tempfile::TempDir, Workspace) {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("tree");
        std::fs::create_dir(&inside).unwrap();
        let workspace = Workspace::open(&inside).unwrap();
        (dir, workspace)
    }

    #[test]
    fn refuses_every_way_out_of_the_directory() {
        let (dir, workspace) = workspace();
        std::fs::write(dir.path().join("secret"), "untouched").unwrap();
        symlink(dir.path(), dir.path().join("tree/up")).unwrap();
        symlink(dir.path().join("secret"), dir.path().join("tree/link")).unwrap();
        symlink("../secret", dir.path().join("tree/relative")).unwrap();
        let absolute = dir.path().join("secret");
        for file in
            ["../secret", "a/../../secret", absolute.to_str().unwrap(), "up/secret", "link", "relative"]
        {
            let written = workspace.write(file, "changed");
            assert!(matches!(written, Err(EditError::Outside(_))), "{file}: {written:?}");
            assert!(matches!(workspace.read(file), Err(EditError::Outside(_))), "{file} was read");
        }
        assert!(matches!(workspace.rename("link", "../moved"), Err(EditError::Outside(_))));
        assert!(matches!(workspace.delete("up/secret"), Err(EditError::Outside(_))));
        assert_eq!(std::fs::read_to_string(absolute).unwrap(), "untouched");
    }

    #[test]
    fn replaces_a_file_whole_and_keeps_its_permissions() {
        let (dir, workspace) = workspace();
        workspace.write("bin/tool", "one").unwrap();
        let path = dir.path().join("tree/bin/tool");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        workspace.write("bin/tool", "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::read_dir(dir.path().join("tree/bin")).unwrap().count(), 1, "no leftovers");
    }

    #[test]
    fn never_renames_over_a_file_and_never_deletes_a_directory() {
        let (dir, workspace) = workspace();
        workspace.write("a", "a").unwrap();
        workspace.write("d/b", "b").unwrap();
        assert!(matches!(workspace.rename("a", "d/b"), Err(EditError::Exists(_))));
        assert!(matches!(workspace.delete("d"), Err(EditError::Directory(_))));
        workspace.rename("a", "e/f").unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("tree/e/f")).unwrap(), "a");
    }
}
