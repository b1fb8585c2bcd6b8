//! Files that are removed from a directory, as events.

use std::io;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Notify;

/// Bytes read at once; the events themselves do not matter.
const EVENTS: usize = 4_096;

/// The removals of files from one directory. All waiting calls share one inotify descriptor: a user has 128 of them.
pub struct Removals {
    /// Not a pipe, but a descriptor that is read like one.
    inotify: Receiver,
    /// Wakes the calls that did not read the events themselves.
    seen: Notify,
}

impl Removals {
    /// Begins to observe a directory. Needs a runtime of tokio.
    ///
    /// # Errors
    /// When the directory does not exist, or the user has too many inotify descriptors.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&inotify, directory, WatchFlags::DELETE | WatchFlags::MOVED_FROM)?;
        Ok(Self { inotify: Receiver::from_owned_fd_unchecked(inotify)?, seen: Notify::new() })
    }

    /// Waits until a file in the directory does not exist.
    ///
    /// # Errors
    /// When the file or the events cannot be read.
    pub async fn gone(&self, file: &Path) -> io::Result<()> {
        loop {
            let mut seen = std::pin::pin!(self.seen.notified());
            // Registered before the look at the file, so that no removal falls between the two.
            seen.as_mut().enable();
            if !file.try_exists()? {
                return Ok(());
            }
            tokio::select! {
                () = seen => {}
                read = self.read() => read?,
            }
        }
    }

    /// Waits for events, discards them and wakes all waiting calls, since each looks for a file of its own.
    async fn read(&self) -> io::Result<()> {
        self.inotify.readable().await?;
        let mut events = [0; EVENTS];
        loop {
            match self.inotify.try_read(&mut events) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        self.seen.notify_waiters();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    async fn wait_for(files: impl Iterator<Item = PathBuf>, removals: &Arc<Removals>) -> JoinSet<PathBuf> {
        let mut calls = JoinSet::new();
        for file in files {
            let removals = Arc::clone(removals);
            calls.spawn(async move {
                removals.gone(&file).await.unwrap();
                file
            });
        }
        // On one thread, every call is polled once and waits.
        tokio::task::yield_now().await;
        calls
    }

    #[tokio::test]
    async fn all_calls_that_hang_on_a_file_continue_when_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let removals = Arc::new(Removals::of(dir.path()).unwrap());
        for round in 0..10 {
            let file = dir.path().join(format!("{round}.hang"));
            std::fs::write(&file, "").unwrap();
            let mut calls = wait_for((0..48).map(|_| file.clone()), &removals).await;
            assert!(calls.try_join_next().is_none(), "a call continued while its file existed");
            std::fs::remove_file(&file).unwrap();
            let mut continued = 0;
            while let Some(call) = calls.join_next().await {
                assert_eq!(call.unwrap(), file);
                continued += 1;
            }
            assert_eq!(continued, 48);
        }
    }

    #[tokio::test]
    async fn a_call_hangs_on_its_own_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let removals = Arc::new(Removals::of(dir.path()).unwrap());
        let files: Vec<_> = ["one", "two"].iter().map(|name| dir.path().join(name)).collect();
        files.iter().for_each(|file| std::fs::write(file, "").unwrap());
        let mut calls = wait_for(files.iter().cloned(), &removals).await;
        // A file that is moved away no longer exists either.
        std::fs::rename(&files[1], dir.path().join("away")).unwrap();
        assert_eq!(calls.join_next().await.unwrap().unwrap(), files[1]);
        assert!(calls.try_join_next().is_none());
        std::fs::remove_file(&files[0]).unwrap();
        assert_eq!(calls.join_next().await.unwrap().unwrap(), files[0]);
    }

    #[tokio::test]
    async fn a_file_that_does_not_exist_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        Removals::of(dir.path()).unwrap().gone(&dir.path().join("none")).await.unwrap();
        assert_eq!(Removals::of(&dir.path().join("none")).err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
