//! Serving the tap logs: a reader may wait until there is more.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use foundry_sandbox::beneath::open_file;
use foundry_sandbox::tap::{DIRECTORY, read_file};
use foundry_sandbox::{AcpId, LogStretch, TapReadError};
use tokio::sync::watch;

use crate::error::{Failure, Kind};

/// Bytes that are given at once, at most, unless one line is longer.
pub(crate) const MAX_STRETCH: usize = 1 << 20;
/// How long a reader may wait.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(30);
/// Logs whose waiters are remembered before those without any are forgotten.
const MAX_IDLE: usize = 256;

/// The logs of this sandbox.
pub(crate) struct Logs {
    home: PathBuf,
    wakers: Mutex<HashMap<AcpId, watch::Sender<()>>>,
}

impl Logs {
    pub fn new(home: PathBuf) -> Self {
        Self { home, wakers: Mutex::default() }
    }

    /// Where the logs are.
    pub fn directory(&self) -> PathBuf {
        DIRECTORY.iter().fold(self.home.clone(), |path, part| path.join(part))
    }

    /// Wakes those who wait for more of this log.
    pub fn grew(&self, acp: &AcpId) {
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = wakers.get(acp) {
            waker.send_replace(());
        }
    }

    fn waiter(&self, acp: &AcpId) -> watch::Receiver<()> {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if wakers.len() >= MAX_IDLE {
            wakers.retain(|_, waker| waker.receiver_count() > 0);
        }
        wakers.entry(acp.clone()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// Up to `max` bytes of a log from `offset` on, waiting for some when there are none; at least one
    /// whole line where there is one. `max` 0 gives none and tells the length.
    pub async fn read(
        &self,
        acp: &AcpId,
        offset: u64,
        max: usize,
        wait: Duration,
    ) -> Result<LogStretch, Failure> {
        let mut waiter = self.waiter(acp);
        let waited = tokio::time::sleep(wait.min(MAX_WAIT));
        tokio::pin!(waited);
        loop {
            let length = self.length(acp, offset)?;
            if length > offset || waited.is_elapsed() || wait.is_zero() {
                break;
            }
            tokio::select! {
                // The sender is dropped only when nobody waits.
                _ = waiter.changed() => {}
                () = &mut waited => {}
            }
        }
        if max == 0 {
            return Ok(LogStretch { bytes: Vec::new(), length: self.length(acp, offset)? });
        }
        let (home, acp) = (self.home.clone(), acp.clone());
        let read = tokio::task::spawn_blocking(move || read_file(&home, &acp, offset)).await;
        let mut stretch = read.map_err(|e| Failure::io("reading the log", e))?.map_err(failure)?;
        cut(&mut stretch.bytes, max);
        Ok(stretch)
    }

    fn length(&self, acp: &AcpId, offset: u64) -> Result<u64, Failure> {
        let name = format!("{acp}.log");
        let length = match open_file(&self.home, &[DIRECTORY[0], DIRECTORY[1], &name]) {
            Ok(file) => file.metadata().map_err(|e| failure(TapReadError::Io(e)))?.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound && offset == 0 => 0,
            Err(e) => return Err(failure(TapReadError::Refused(e))),
        };
        if length < offset {
            return Err(failure(TapReadError::Truncated { expected: offset, found: length }));
        }
        Ok(length)
    }
}

fn failure(e: TapReadError) -> Failure {
    let kind = match e {
        TapReadError::Truncated { .. } => Kind::Truncated,
        TapReadError::Refused(_) => Kind::Refused,
        TapReadError::Io(_) => Kind::Io,
    };
    Failure::new(kind, e.to_string())
}

/// No more than `max` bytes, but the first line whole.
fn cut(bytes: &mut Vec<u8>, max: usize) {
    let max = max.min(MAX_STRETCH);
    let first = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |end| end + 1);
    bytes.truncate(max.max(first));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_no_more_than_asked_for_but_a_whole_first_line() {
        for (max, given) in [(1, "abc\n"), (4, "abc\n"), (6, "abc\nde"), (100, "abc\ndef\n")] {
            let mut bytes = b"abc\ndef\n".to_vec();
            cut(&mut bytes, max);
            assert_eq!(String::from_utf8(bytes).unwrap(), given);
        }
        let mut unfinished = b"abc".to_vec();
        cut(&mut unfinished, 1);
        assert_eq!(unfinished, b"abc");
    }
}
