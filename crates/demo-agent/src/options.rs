//! Options of the demo agent, above all the length of a second.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

/// The variable that sets [`DemoOptions::second`], in milliseconds.
const SECOND_VARIABLE: &str = "FOUNDRY_DEMO_AGENT_SECOND_MS";

/// Time, limits and the stop signal of one agent process.
#[derive(Clone)]
pub struct DemoOptions {
    /// The source of waits.
    pub clock: Arc<dyn Clock>,
    /// How long "a second" in a prompt lasts. Default one second.
    pub second: Duration,
    /// The pause between two pieces of streamed text. Default 15 ms; "slowly" makes it half a second.
    pub chunk_pause: Duration,
    /// How long a command may run before it is stopped. Default ten minutes.
    pub command_limit: Duration,
    /// Time between SIGTERM and SIGKILL for a stopped command, and how long output is still read after a command's exit
    /// when a process keeps the pipe open. Default one second.
    pub command_grace: Duration,
    /// Ends the agent as if its input had closed.
    pub stop: CancellationToken,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            second: Duration::from_secs(1),
            chunk_pause: Duration::from_millis(15),
            command_limit: Duration::from_secs(600),
            command_grace: Duration::from_secs(1),
            stop: CancellationToken::new(),
        }
    }
}

impl DemoOptions {
    /// The defaults, with the length of a second taken from `FOUNDRY_DEMO_AGENT_SECOND_MS` when it
    /// is set to a number; streamed text is paced in proportion.
    pub fn from_environment() -> Self {
        let given = std::env::var(SECOND_VARIABLE).ok();
        Self::default().with_second_ms(given.as_deref())
    }

    fn with_second_ms(mut self, given: Option<&str>) -> Self {
        if let Some(ms) = given.and_then(|v| v.trim().parse::<u64>().ok()) {
            self.second = Duration::from_millis(ms);
            self.chunk_pause = self.second.mul_f64(0.015);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_all_of_its_time_with_the_length_of_a_second() {
        let fast = DemoOptions::default().with_second_ms(Some("0"));
        assert_eq!((fast.second, fast.chunk_pause), (Duration::ZERO, Duration::ZERO));
        let odd = DemoOptions::default().with_second_ms(Some("soon"));
        assert_eq!(odd.second, Duration::from_secs(1));
    }
}
