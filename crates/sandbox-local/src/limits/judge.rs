//! Decides from measured amounts what to kill and which limits to report. No clock and no process here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use foundry_core::Timestamp;
use foundry_sandbox::{LimitKind, ReachedLimit};

/// How long a limit stays reported after it was last seen, so that a probe every few seconds and a user can see it.
pub(crate) const HOLD: Duration = Duration::from_secs(30);
/// How long a sandbox may be at its process limit before its commands are killed.
const FULL: Duration = Duration::from_secs(10);

/// What to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sentence {
    /// Kill no process at all.
    Spare,
    /// Kill what agents and commands have started, but not themselves.
    Commands,
    /// Kill all but the runtime.
    AllButRuntime,
}

/// An amount that remains when processes are killed, such as disk use.
#[derive(Clone, Debug)]
pub(crate) struct Stock {
    limit: u64,
    /// Below this, nothing more is killed, so that there is room to save and to clean up; none = not over the limit.
    ceiling: Option<u64>,
}

impl Stock {
    /// A stock with this limit; 0 = none.
    pub fn new(limit: u64) -> Self {
        Self { limit, ceiling: None }
    }

    /// Whether this amount is over the limit.
    pub fn is_over(&self, used: u64) -> bool {
        self.limit > 0 && used > self.limit
    }

    /// How much may still be used before the next measurement is needed.
    pub fn left(&self, used: u64) -> u64 {
        let most = self.ceiling.unwrap_or(self.limit);
        most.saturating_sub(used).max(self.limit / 16)
    }

    /// Decides by the amount used now.
    pub fn judge(&mut self, used: u64) -> Sentence {
        if !self.is_over(used) {
            self.ceiling = None;
            return Sentence::Spare;
        }
        match self.ceiling {
            None => {
                let room = used.saturating_add(self.limit / 4);
                self.ceiling = Some(room.min(self.limit.saturating_mul(3)));
                Sentence::Commands
            }
            Some(ceiling) if used <= ceiling => Sentence::Spare,
            Some(_) => Sentence::AllButRuntime,
        }
    }
}

/// Processes where the kernel refuses those beyond the limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forks {
    refused: u64,
    full_since: Option<Instant>,
    last_refusal: Option<Instant>,
    ended: bool,
}

impl Forks {
    /// Starts from this number of refusals.
    pub fn new(refused: u64) -> Self {
        Self { refused, ..Self::default() }
    }

    /// Ignores refusals up to this number, which the sandbox did not cause.
    pub fn discount(&mut self, refused: u64) {
        self.refused = self.refused.max(refused);
    }

    /// Whether any was refused since the last check, and what to kill: a sandbox that stays at its limit is useless.
    pub fn judge(&mut self, processes: u64, refused: u64, limit: u64, now: Instant) -> (bool, Sentence) {
        let hit = refused > self.refused;
        self.refused = refused;
        if hit {
            self.last_refusal = Some(now);
        }
        let recent = self.last_refusal.is_some_and(|at| now.duration_since(at) < FULL);
        if processes < limit - limit / 10 || !recent {
            self.full_since = None;
            self.ended = false;
            return (hit, Sentence::Spare);
        }
        let since = *self.full_since.get_or_insert(now);
        if now.duration_since(since) < FULL {
            return (hit, Sentence::Spare);
        }
        self.full_since = Some(now);
        let sentence = if self.ended { Sentence::AllButRuntime } else { Sentence::Commands };
        self.ended = true;
        (hit, sentence)
    }
}

/// The reached limits to report, each kept for a while after it was last seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReachedLimits {
    reached: BTreeMap<LimitKind, (ReachedLimit, Instant)>,
}

impl ReachedLimits {
    /// Continues from the limits that were reported before.
    pub fn from(reached: Vec<ReachedLimit>, now: Instant) -> Self {
        Self { reached: reached.into_iter().map(|r| (r.kind, (r, now))).collect() }
    }

    /// Records that a limit is reached now.
    pub fn see(&mut self, kind: LimitKind, used: u64, limit: u64, ended: bool, at: (Timestamp, Instant)) {
        let new = ReachedLimit { kind, used, limit, since: at.0, ended };
        let (known, last) = self.reached.entry(kind).or_insert((new, at.1));
        known.ended |= ended;
        *last = at.1;
    }

    /// Drops what was not seen for a while.
    pub fn settle(&mut self, now: Instant) {
        self.reached.retain(|_, (_, last)| now.duration_since(*last) < HOLD);
    }

    /// The limits to report.
    pub fn list(&self) -> Vec<ReachedLimit> {
        self.reached.values().map(|(r, _)| r.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_room_to_save_and_clear_up_after_the_first_end() {
        let mut disk = Stock::new(1_000);
        assert_eq!(disk.judge(1_000), Sentence::Spare, "the limit itself may be used");
        assert_eq!(disk.judge(1_200), Sentence::Commands);
        assert_eq!(disk.judge(1_450), Sentence::Spare, "a commit, say");
        assert_eq!(disk.judge(1_451), Sentence::AllButRuntime);
        assert_eq!(disk.judge(1_452), Sentence::AllButRuntime, "again and again");
        assert_eq!(disk.judge(900), Sentence::Spare);
        assert_eq!(disk.judge(1_001), Sentence::Commands, "from the beginning");
        let mut leap = Stock::new(1_000);
        leap.judge(3_500);
        assert_eq!(leap.judge(3_500), Sentence::AllButRuntime, "never beyond three times the limit");
        assert_eq!(Stock::new(0).judge(u64::MAX), Sentence::Spare, "no limit");
    }

    #[test]
    fn ends_commands_only_where_processes_are_refused_for_long() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut forks = Forks::new(5);
        assert_eq!(forks.judge(200, 5, 200, at(0)), (false, Sentence::Spare), "full, and nobody wants more");
        assert_eq!(forks.judge(200, 9, 200, at(1)), (true, Sentence::Spare));
        assert_eq!(forks.judge(100, 9, 200, at(5)), (false, Sentence::Spare), "room again");
        assert_eq!(forks.judge(200, 12, 200, at(20)), (true, Sentence::Spare));
        assert_eq!(forks.judge(199, 13, 200, at(29)), (true, Sentence::Spare));
        assert_eq!(forks.judge(199, 13, 200, at(30)), (false, Sentence::Commands));
        assert_eq!(forks.judge(199, 14, 200, at(35)), (true, Sentence::Spare));
        assert_eq!(forks.judge(199, 15, 200, at(40)), (true, Sentence::AllButRuntime));
    }

    #[test]
    fn refusals_while_commands_were_ended_are_no_limit_that_was_reached() {
        let now = Instant::now();
        let mut forks = Forks::new(5);
        forks.discount(40);
        assert_eq!(forks.judge(200, 40, 200, now), (false, Sentence::Spare));
        forks.discount(30);
        assert_eq!(forks.judge(200, 40, 200, now), (false, Sentence::Spare), "never backwards");
        assert_eq!(forks.judge(200, 41, 200, now), (true, Sentence::Spare));
    }

    #[test]
    fn tells_a_limit_once_and_forgets_it_when_it_was_not_seen_for_a_while() {
        let (start, first) = (Instant::now(), Timestamp::from_micros(1));
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut limits = ReachedLimits::default();
        limits.see(LimitKind::Memory, 10, 8, false, (first, start));
        limits.see(LimitKind::Memory, 12, 8, true, (Timestamp::from_micros(9), at(15)));
        let expected =
            ReachedLimit { kind: LimitKind::Memory, used: 10, limit: 8, since: first, ended: true };
        limits.settle(at(44));
        assert_eq!(limits.list(), [expected]);
        limits.settle(at(45));
        assert_eq!(limits.list(), []);
    }
}
