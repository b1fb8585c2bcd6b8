//! Following a log: the runtime is asked to answer when the log grows, and a coarse poll covers the case
//! that it cannot be asked.

use std::time::Duration;

use foundry_core::Env;
use foundry_sandbox::{AcpId, TapBatch, TapCursor, TapReadError, TapReader};

use super::RuntimeClient;

/// What is said within this time of the first word is read together.
const GATHER: Duration = Duration::from_millis(20);
/// How long one question for news stays open at the runtime.
const WAIT: Duration = Duration::from_secs(25);

/// Follows the log of one conversation.
pub struct LogFollower {
    reader: TapReader,
    acp: AcpId,
    cursor: TapCursor,
    client: Option<RuntimeClient>,
    poll: Duration,
    env: Env,
}

impl LogFollower {
    /// Follows `reader` from `cursor` on. Without a client, or when it cannot reach the runtime, the log is
    /// looked at every `poll`.
    pub fn new(
        reader: TapReader,
        acp: AcpId,
        cursor: TapCursor,
        client: Option<RuntimeClient>,
        poll: Duration,
        env: Env,
    ) -> Self {
        Self { reader, acp, cursor, client, poll, env }
    }

    /// The next events, at least one. Cancel-safe: what was not returned is returned by the next call.
    ///
    /// # Errors
    /// As [`TapReader::read`].
    pub async fn next(&mut self) -> Result<TapBatch, TapReadError> {
        loop {
            let batch = self.reader.read(&self.cursor).await?;
            let progress = batch.next != self.cursor;
            self.cursor = batch.next.clone();
            if !batch.events.is_empty() {
                return Ok(batch);
            }
            if !progress {
                self.wait().await;
            }
        }
    }

    /// Completes when the log may have grown.
    async fn wait(&self) {
        let Some(client) = &self.client else { return self.env.clock.sleep(self.poll).await };
        // No bytes are asked for: they are read through the handle, which may know a shorter way.
        match client.read_log(&self.acp, self.cursor.offset, 0, WAIT).await {
            Ok(stretch) if stretch.length > self.cursor.offset => self.env.clock.sleep(GATHER).await,
            Ok(_) => {}
            Err(e) => {
                tracing::debug!(session = %self.acp, error = %e, "the log is polled");
                self.env.clock.sleep(self.poll).await;
            }
        }
    }
}
