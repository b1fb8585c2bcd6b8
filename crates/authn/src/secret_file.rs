//! Files with secrets: mode 0600, never half written, refused when others can read them. All of it
//! blocks: for the start of a process and for rare background work.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use foundry_core::{Error, Result};

/// The content of a secret file; none when there is no such file.
///
/// # Errors
/// `FAILED_PRECONDITION` `SECRET_FILE_UNUSABLE` naming the file when it cannot be read or other
/// users can read it.
pub fn read_secret_file(path: &Path) -> Result<Option<String>> {
    let content = match fs::read_to_string(path) {
        Ok(content) => content,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unusable(path, &e.to_string())),
    };
    let mode = fs::metadata(path).map_err(|e| unusable(path, &e.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        let why = format!("its mode is {:o}, so that other users can read it", mode & 0o777);
        return Err(
            unusable(path, &why).next_action("delete it to have a new one made, or set its mode to 600")
        );
    }
    Ok(Some(content))
}

/// The content of a secret file, made with `content` when there is none. Of two processes that
/// start at once one makes it, and neither reads half a file.
///
/// # Errors
/// As [`read_secret_file`].
pub fn read_or_create_secret_file(path: &Path, content: &str) -> Result<String> {
    if let Some(old) = read_secret_file(path)? {
        return Ok(old);
    }
    let temporary = write_temporary(path, content.as_bytes(), 0o600)?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary).map_err(|e| unusable(&temporary, &e.to_string()))?;
    match linked {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(unusable(path, &e.to_string())),
        _ => read_secret_file(path)?.ok_or_else(|| unusable(path, "it vanished")),
    }
}

/// Replaces a secret file as a whole.
///
/// # Errors
/// As [`read_secret_file`].
pub fn replace_secret_file(path: &Path, content: &str) -> Result<()> {
    replace(path, content.as_bytes(), 0o600)
}

pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let temporary = write_temporary(path, content, mode)?;
    fs::rename(&temporary, path).map_err(|e| unusable(path, &e.to_string()))
}

fn write_temporary(path: &Path, content: &[u8], mode: u32) -> Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let write = || {
        // A left-over of a killed process with the same id is in nobody's use.
        if let Err(e) = fs::remove_file(&temporary)
            && e.kind() != ErrorKind::NotFound
        {
            return Err(e);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|e: std::io::Error| unusable(&temporary, &e.to_string()))?;
    Ok(temporary)
}

pub(crate) fn unusable(path: &Path, why: &str) -> Error {
    let name = path.display().to_string();
    Error::precondition("SECRET_FILE_UNUSABLE", &name, format!("{name} cannot be used: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_made_first_and_shows_it_to_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert_eq!(read_or_create_secret_file(&path, "first").unwrap(), "first");
        assert_eq!(read_or_create_secret_file(&path, "second").unwrap(), "first");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        replace_secret_file(&path, "third").unwrap();
        assert_eq!(read_secret_file(&path).unwrap().as_deref(), Some("third"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn refuses_a_file_that_others_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read_secret_file(&path).unwrap_err().reason(), "SECRET_FILE_UNUSABLE");
    }
}
