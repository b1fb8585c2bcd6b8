//! Files beneath a directory that an agent can write: every step is opened through the handle of the
//! step before, no link is followed, and only regular files are read.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};

use crate::{Class, ProviderError};

/// Opens a regular file for reading. `parts` are plain names.
///
/// # Errors
/// `InvalidInput` for names that are not plain, `NotFound`, and the system's error for a link or anything else that is
/// not a regular file.
pub fn open_file(root: &Path, parts: &[&str]) -> io::Result<File> {
    let [directories @ .., name] = parts else { return Err(io::ErrorKind::InvalidInput.into()) };
    if parts.iter().any(|p| p.is_empty() || *p == "." || *p == ".." || p.contains(['/', '\0'])) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at: OwnedFd = rustix::fs::open(root, directory, Mode::empty())?;
    for part in directories {
        at = openat(&at, *part, directory, Mode::empty())?;
    }
    // Without NONBLOCK, opening a pipe without a writer would block for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(&at, *name, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// Copies a file that the sandbox hands over, out of its HOME. `relative` is a path below `home` as this
/// host sees it; `destination` appears whole or not at all. Returns the size.
///
/// # Errors
/// `HANDOVER_MISSING`, `HANDOVER_REFUSED` (a link, a directory, a path that leaves HOME),
/// `HANDOVER_TOO_LARGE` naming the limit, `SANDBOX_IO`.
pub async fn copy_out(
    home: PathBuf,
    relative: String,
    destination: PathBuf,
    max_bytes: u64,
) -> Result<u64, ProviderError> {
    let work = move || copy(&home, &relative, &destination, max_bytes);
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(ProviderError::io("copying out of the sandbox", io::Error::other(e))),
    }
}

fn copy(home: &Path, relative: &str, destination: &Path, max_bytes: u64) -> Result<u64, ProviderError> {
    let parts: Vec<&str> = relative.split('/').collect();
    let file = open_file(home, &parts).map_err(|e| {
        let (reason, what) = match e.kind() {
            io::ErrorKind::NotFound => ("HANDOVER_MISSING", "does not exist".to_owned()),
            _ => ("HANDOVER_REFUSED", format!("cannot be read: {e}")),
        };
        ProviderError::new(Class::Provider, reason, format!("the sandbox's file {relative:?} {what}"))
    })?;
    let io = |e| ProviderError::io("copying out of the sandbox", e);
    let part = destination.with_extension("part");
    let mut out = File::create(&part).map_err(io)?;
    // The file may grow while it is read: one byte more than allowed is requested.
    let mut bounded = io::BufReader::with_capacity(1 << 16, file).take(max_bytes.saturating_add(1));
    let copied = io::copy(&mut bounded, &mut out).and_then(|n| out.flush().and(out.sync_all()).map(|()| n));
    let outcome = match copied {
        Ok(n) if n > max_bytes => {
            let message = format!("the sandbox's file {relative:?} is larger than {max_bytes} bytes");
            Err(ProviderError::new(Class::Capacity, "HANDOVER_TOO_LARGE", message))
        }
        Ok(n) => fs::rename(&part, destination).map(|()| n).map_err(io),
        Err(e) => Err(io(e)),
    };
    if outcome.is_err() {
        // Best effort: the directory is ours and is cleared with the stage.
        let _ = fs::remove_file(&part);
    }
    outcome
}

/// Calls with a path to a socket that is short enough for the system (107 bytes), whatever directory it is in.
///
/// # Errors
/// Those of the call, and when the directory cannot be opened.
pub fn beside<T>(path: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = File::open(directory)?;
    call(&Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn takes_regular_files_and_refuses_every_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir_all(home.join("a")).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        fs::write(home.join("a/file"), "content").unwrap();
        symlink("../secret", home.join("link")).unwrap();
        symlink("..", home.join("up")).unwrap();
        symlink("/etc", home.join("etc")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(home.join("pipe")).status().unwrap();
        assert!(pipe.success());
        let out = dir.path().join("out");
        assert_eq!(copy(&home, "a/file", &out, 7).unwrap(), 7);
        assert_eq!(fs::read_to_string(&out).unwrap(), "content");
        for bad in
            ["link", "up/secret", "etc/passwd", "../secret", "/etc/passwd", "a", "pipe", "", "a/../../secret"]
        {
            let e = copy(&home, bad, &out, 100).unwrap_err();
            assert_eq!(e.reason, "HANDOVER_REFUSED", "{bad}: {e}");
        }
        assert_eq!(copy(&home, "a/none", &out, 100).unwrap_err().reason, "HANDOVER_MISSING");
        let e = copy(&home, "a/file", &out, 6).unwrap_err();
        assert_eq!((e.class, e.reason), (Class::Capacity, "HANDOVER_TOO_LARGE"));
        assert!(!out.with_extension("part").exists());
    }
}
