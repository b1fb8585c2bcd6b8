//! Reading the tap logs, with long polling.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use foundry_sandbox::beneath::open_file;
use foundry_sandbox::tap::{DIRECTORY, read_file};
use foundry_sandbox::{AcpId, LogStretch, TapReadError};
use tokio::sync::watch;

use crate::error::{Failure, Kind};

/// Largest stretch, in bytes, unless the first line is longer.
pub(crate) const MAX_STRETCH: usize = 1 << 20;
/// Longest wait of a reader.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(30);
/// Entries before those without a waiter are removed.
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

    /// The directory of the logs.
    pub fn directory(&self) -> PathBuf {
        DIRECTORY.iter().fold(self.home.clone(), |path, part| path.join(part))
    }

    /// Wakes the readers that wait for this log.
    pub fn grew(&self, acp: &AcpId) {
        let wakers = foundry_core::lock(&self.wakers);
        if let Some(waker) = wakers.get(acp) {
            waker.send_replace(());
        }
    }

    fn waiter(&self, acp: &AcpId) -> watch::Receiver<()> {
        let mut wakers = foundry_core::lock(&self.wakers);
        if wakers.len() >= MAX_IDLE {
            wakers.retain(|_, waker| waker.receiver_count() > 0);
        }
        wakers.entry(acp.clone()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// Up to `max` bytes of a log from `offset` on, at least one whole line; waits up to `wait` for new
    /// bytes. `max` 0 returns the length alone.
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
                // The sender is dropped only without receivers, so this cannot fail.
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

/// Cuts to `max` bytes, but keeps the first line whole.
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
