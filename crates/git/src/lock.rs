//! Exclusive use of one directory, across tasks and processes.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::time::Instant;

use crate::{GitError, GitErrorKind, Result};

/// Held while one operation changes a repository. The lock belongs to the open file, so it
/// excludes other tasks of this process as well, and ends with the process however it dies.
pub(crate) struct Lock(File);

impl Drop for Lock {
    /// Closing our descriptor is not enough: a child of another task, forked but not yet running its program, holds a
    /// copy of it for a moment and with it the lock. Unlocking releases the lock for all copies.
    fn drop(&mut self) {
        if let Err(e) = self.0.unlock() {
            tracing::warn!(error = %e, "a repository's lock is held until its last descriptor is closed");
        }
    }
}

impl Lock {
    /// Waits for the lock on `<dir>.lock`, at most `limit`.
    pub(crate) async fn acquire(dir: &Path, limit: Duration) -> Result<Self> {
        let mut path = dir.as_os_str().to_owned();
        path.push(".lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            // A link in place of the lock file would make us create a file elsewhere.
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(|e| GitError::io("cannot open the repository's lock file", &e))?;
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(2);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(100));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(GitError::new(
                        GitErrorKind::Busy,
                        "GIT_REPOSITORY_BUSY",
                        "another operation is using this repository",
                    ));
                }
                Err(TryLockError::Error(e)) => return Err(GitError::io("cannot lock the repository", &e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn excludes_a_second_holder_in_the_same_process_until_released() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("m");
        let held = Lock::acquire(&dir, Duration::ZERO).await.unwrap();
        let err = Lock::acquire(&dir, Duration::from_millis(5)).await.err().unwrap();
        assert_eq!(err.kind(), GitErrorKind::Busy);
        drop(held);
        assert!(Lock::acquire(&dir, Duration::ZERO).await.is_ok());
    }

    #[tokio::test]
    async fn is_released_although_a_child_still_has_a_copy_of_the_descriptor() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("m");
        let held = Lock::acquire(&dir, Duration::ZERO).await.unwrap();
        let inherited = held.0.try_clone().unwrap();
        drop(held);
        assert!(Lock::acquire(&dir, Duration::ZERO).await.is_ok());
        drop(inherited);
    }
}
