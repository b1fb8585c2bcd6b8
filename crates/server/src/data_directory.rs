//! The data directory: private, and held by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use foundry_core::Env;

/// How often [`DataDirectory::open_within`] tries.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    /// Another process holds it.
    #[error("the data directory {path} is in use by process {holder}; stop it or choose another directory", path = path.display())]
    Held {
        /// The data directory.
        path: PathBuf,
        /// Process id written by the holder, or `unknown`.
        holder: String,
    },
    /// It cannot be created, tightened or locked.
    #[error("the data directory {path} cannot be used: {source}", path = path.display())]
    Io {
        /// The data directory.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// A data directory of mode 0700, locked as long as this value lives.
///
/// The operating system releases the lock when the process ends, however it ends.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Name of the lock file; it holds the process id of the holder.
    pub const LOCK: &'static str = "foundry.lock";

    /// Creates the directory if absent, makes it private and takes its lock.
    ///
    /// # Errors
    /// When another process holds it, or the file system refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataDirectoryError> {
        let path = path.as_ref();
        let io = |source| DataDirectoryError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        // An existing directory may be open to others, and it contains keys and databases.
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(io)?;

        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(Self::LOCK))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The pid is only a courtesy; the refusal does not depend on it.
                let _ = lock.read_to_string(&mut holder);
                let holder = holder.trim();
                let holder = if holder.is_empty() { "unknown" } else { holder }.to_owned();
                return Err(DataDirectoryError::Held { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(e)) => return Err(io(e)),
        }
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(io)?;
        writeln!(lock, "{}", std::process::id()).map_err(io)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// As [`DataDirectory::open`], but waits at most `limit` while another process holds it: one that was killed lets go
    /// of its locks only a moment later.
    ///
    /// # Errors
    /// When another process holds it still, or the file system refuses.
    pub async fn open_within(
        path: impl AsRef<Path>,
        limit: Duration,
        env: &Env,
    ) -> Result<Self, DataDirectoryError> {
        let ends = env.clock.now().plus(limit);
        loop {
            match Self::open(&path) {
                Err(DataDirectoryError::Held { .. }) if env.clock.now() < ends => {
                    env.clock.sleep(LOOK_AGAIN).await;
                }
                opened => return opened,
            }
        }
    }

    /// The path of the locked directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_private_and_held_by_one_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();

        let first = DataDirectory::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let refused = DataDirectory::open(&path).unwrap_err();
        let DataDirectoryError::Held { holder, .. } = refused else { panic!("{refused}") };
        assert_eq!(holder, std::process::id().to_string());

        drop(first);
        DataDirectory::open(&path).unwrap();
    }

    #[tokio::test]
    async fn waits_a_while_for_a_holder_that_is_about_to_end_and_not_for_another() {
        let (root, env) = (tempfile::tempdir().unwrap(), Env::system());
        let path = root.path().join("data");
        let mut holder = Some(DataDirectory::open(&path).unwrap());
        // It is polled first, and finds the directory held.
        let opened = DataDirectory::open_within(&path, Duration::from_secs(20), &env);
        let (opened, ()) = tokio::join!(opened, async { drop(holder.take()) });
        let _holder = opened.unwrap();
        let refused = DataDirectory::open_within(&path, Duration::ZERO, &env).await;
        assert!(matches!(refused, Err(DataDirectoryError::Held { .. })), "{refused:?}");
    }
}
