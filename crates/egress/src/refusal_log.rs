//! Limits log lines about refusals: an agent may try a thousand hosts a second, of which an operator needs one line.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use foundry_core::Timestamp;

/// Each sandbox may log [`LINES`] lines in this time.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines of a sandbox in each [`WINDOW`].
const LINES: u32 = 10;
/// Sandboxes that are counted; beyond these, expired ones are dropped.
const SANDBOXES: usize = 4_096;

/// The lines logged for each sandbox.
#[derive(Default)]
pub(crate) struct RefusalLog(Mutex<HashMap<String, Logged>>);

#[derive(Clone, Copy)]
struct Logged {
    since: Timestamp,
    lines: u32,
}

/// Whether to log a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Write,
    /// Log it as the last one in this window.
    Last,
    Skip,
}

impl RefusalLog {
    /// Counts one more refusal of a sandbox.
    pub fn count(&self, sandbox: &str, now: Timestamp) -> Line {
        // The map is whole after every change, so a panic leaves it usable.
        let mut all = foundry_core::lock(&self.0);
        if all.len() >= SANDBOXES && !all.contains_key(sandbox) {
            all.retain(|_, logged| now.since(logged.since) < WINDOW);
        }
        let logged = all.entry(sandbox.to_owned()).or_insert(Logged { since: now, lines: 0 });
        if now.since(logged.since) >= WINDOW {
            *logged = Logged { since: now, lines: 0 };
        }
        logged.lines = logged.lines.saturating_add(1);
        match logged.lines {
            LINES => Line::Last,
            n if n < LINES => Line::Write,
            _ => Line::Skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_a_few_lines_of_a_sandbox_in_a_minute_and_all_of_another() {
        let refusals = RefusalLog::default();
        let at = |seconds: u64| Timestamp::from_micros(0).plus(Duration::from_secs(seconds));
        let lines: Vec<_> = (0..1_000).map(|_| refusals.count("one", at(0))).collect();
        assert_eq!(lines.iter().filter(|l| **l != Line::Skip).count(), 10);
        assert_eq!((lines[8], lines[9], lines[10]), (Line::Write, Line::Last, Line::Skip));
        assert_eq!(refusals.count("two", at(1)), Line::Write);
        assert_eq!(refusals.count("one", at(59)), Line::Skip);
        assert_eq!(refusals.count("one", at(60)), Line::Write);
        for n in 0..10_000 {
            refusals.count(&format!("other {n}"), at(200 + n));
        }
        assert!(refusals.0.lock().unwrap().len() <= SANDBOXES + 1, "those of long ago are forgotten");
    }
}
