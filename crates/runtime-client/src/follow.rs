//! Following a log: the runtime answers a long poll when the log grows, and a coarse poll covers the case that the
//! runtime cannot be reached.

use std::time::Duration;

use foundry_core::Env;
use foundry_sandbox::{AcpId, TapBatch, TapCursor, TapReadError, TapReader};

use super::RuntimeClient;

/// Messages within this time of the first one are read together.
const GATHER: Duration = Duration::from_millis(20);
/// How long one long poll stays open at the runtime.
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
    /// Follows `reader` from `cursor` on. Without a client, or while the runtime cannot be reached, the log is read
    /// every `poll`.
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
        // Requests no bytes: they are read through the handle, which may have a faster way.
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
