//! Files with secrets: mode 0600, never half written, refused when others can read them. All functions block: they are
//! for the start of a process and for rare background work.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use foundry_core::{Error, Result};
use tempfile::NamedTempFile;

/// The content of a secret file; none if it does not exist.
///
/// # Errors
/// `FAILED_PRECONDITION` `SECRET_FILE_UNUSABLE` naming the file when it cannot be read or other
/// users can read it.
pub fn read_secret_file(path: &Path) -> Result<Option<String>> {
    let because = |e: io::Error| file_unusable(path, &e.to_string());
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(because(e)),
    };
    let mode = file.metadata().map_err(because)?.permissions().mode();
    if mode & 0o077 != 0 {
        let why = format!("its mode is {:o}, so that other users can read it", mode & 0o777);
        return Err(
            file_unusable(path, &why).next_action("delete it to create a new one, or set its mode to 600")
        );
    }
    let mut content = String::new();
    file.read_to_string(&mut content).map_err(because)?;
    Ok(Some(content))
}

/// The content of a secret file, created with `content` if it does not exist. When two processes start at once, one of
/// them creates it, and neither reads half a file. A created file survives a power cut.
///
/// # Errors
/// `FAILED_PRECONDITION` `SECRET_FILE_UNUSABLE` naming the file when it cannot be used or other users can read it.
pub fn read_or_create_secret_file(path: &Path, content: &str) -> Result<String> {
    if let Some(old) = read_secret_file(path)? {
        return Ok(old);
    }
    match temporary(path, content.as_bytes(), 0o600)?.persist_noclobber(path) {
        Err(e) if e.error.kind() != ErrorKind::AlreadyExists => {
            Err(file_unusable(path, &e.error.to_string()))
        }
        _ => {
            // Also after a lost race: the content read here must be durable.
            sync_directory(path)?;
            read_secret_file(path)?.ok_or_else(|| file_unusable(path, "it disappeared"))
        }
    }
}

/// Replaces a secret file atomically.
///
/// # Errors
/// `FAILED_PRECONDITION` `SECRET_FILE_UNUSABLE` naming the file when it cannot be used or other users can read it.
pub fn replace_secret_file(path: &Path, content: &str) -> Result<()> {
    replace_file(path, content.as_bytes(), 0o600)
}

/// Replaces a file atomically; its mode becomes `mode`.
///
/// # Errors
/// `FAILED_PRECONDITION` `SECRET_FILE_UNUSABLE` naming the file when it cannot be used or other users can read it.
pub fn replace_file(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let persisted = temporary(path, content, mode)?.persist(path);
    persisted.map_err(|e| file_unusable(path, &e.error.to_string()))?;
    sync_directory(path)
}

/// `SECRET_FILE_UNUSABLE` with the name of the file.
pub fn file_unusable(path: &Path, why: &str) -> Error {
    let name = path.display().to_string();
    Error::precondition("SECRET_FILE_UNUSABLE", &name, format!("{name} cannot be used: {why}"))
}

/// A written file beside `path`, deleted unless it is renamed.
fn temporary(path: &Path, content: &[u8], mode: u32) -> Result<NamedTempFile> {
    let write = || {
        // Created with 0600, whatever `mode` is, so that it never has wider permissions.
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory(path))?;
        file.write_all(content)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    write().map_err(|e: io::Error| file_unusable(path, &e.to_string()))
}

fn sync_directory(path: &Path) -> Result<()> {
    let synced = File::open(directory(path)).and_then(|directory| directory.sync_all());
    synced.map_err(|e| file_unusable(path, &e.to_string()))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Barrier;

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
    fn of_many_that_make_it_at_once_all_read_the_one_that_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let (path, start) = (&path, &Barrier::new(8));
        let read: Vec<_> = std::thread::scope(|scope| {
            let make = |i: usize| {
                start.wait();
                read_or_create_secret_file(path, &format!("{i}").repeat(10_000)).unwrap()
            };
            let threads: Vec<_> = (0..8).map(|i| scope.spawn(move || make(i))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(read.iter().all(|one| *one == read[0] && one.len() == 10_000));
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
