//! One installer of a tool at a time, among all processes of the machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use foundry_core::Env;
use rustix::fs::{FlockOperation, flock};

use crate::{Cause, ToolError};

const STEP: Duration = Duration::from_millis(100);

/// An operating-system lock, released when its holder ends, however it ends.
pub(crate) struct Held(fs::File);

#[cfg(test)]
impl Held {
    /// A copy such as a child that is just being forked holds.
    pub(crate) fn copy(&self) -> fs::File {
        self.0.try_clone().unwrap()
    }
}

impl Drop for Held {
    /// Unlocks explicitly: a child that is just being forked holds a copy of the file, and closing ours would leave the
    /// lock with it.
    fn drop(&mut self) {
        if let Err(e) = flock(&self.0, FlockOperation::Unlock) {
            tracing::warn!(error = %e, "the lock of the tool cache was not released");
        }
    }
}

/// Waits for the lock; `waiting` is called once when another holds it.
pub(crate) async fn take(
    path: &Path,
    name: &str,
    limit: Duration,
    env: &Env,
    waiting: impl FnOnce(),
) -> Result<Held, ToolError> {
    let what = || format!("locking {name} in the tool cache");
    let open = fs::File::options().create(true).truncate(false).write(true).open(path);
    let file = open.map_err(|e| ToolError::io(what(), e))?;
    let (mut waited, mut waiting) = (Duration::ZERO, Some(waiting));
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Held(file)),
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::WOULDBLOCK) if waited < limit => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let message = format!("another process has been installing {name} for {} s", limit.as_secs());
                return Err(ToolError::new(Cause::Timeout, "TOOL_INSTALL_TIMEOUT", message).retryable());
            }
            Err(e) => return Err(ToolError::io(what(), e.into())),
        }
        if let Some(waiting) = waiting.take() {
            waiting();
        }
        env.clock.sleep(STEP).await;
        waited += STEP;
    }
}
