//! Work that makes no progress, however often it is tried.

use std::time::Duration;

use foundry_core::Timestamp;

/// After failing for this long, work counts as stalled.
const STALLED: Duration = Duration::from_secs(10);
/// Time between two reports of one stall.
const REPEAT: Duration = Duration::from_secs(60);

/// Decides when failures are reported: once they have lasted 10 s without progress, and then once a minute.
#[derive(Debug, Default)]
pub struct Stall {
    since: Option<Timestamp>,
    reported: Option<Timestamp>,
}

impl Stall {
    /// Records a failure. Some = report it now; failures have lasted for this long.
    pub fn failed(&mut self, now: Timestamp) -> Option<Duration> {
        let lasted = now.since(*self.since.get_or_insert(now));
        let silent = self.reported.is_none_or(|at| now.since(at) >= REPEAT);
        (lasted >= STALLED && silent).then(|| {
            self.reported = Some(now);
            lasted
        })
    }

    /// Records progress: the next failure is the first one.
    pub fn progressed(&mut self) {
        *self = Self::default();
    }

    /// Whether something has failed since the last progress.
    pub fn is_failing(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_a_stall_after_ten_seconds_and_once_a_minute_until_there_is_progress() {
        let mut stall = Stall::default();
        let reports = |stall: &mut Stall, seconds: std::ops::Range<i64>| -> Vec<i64> {
            seconds.filter(|s| stall.failed(Timestamp::from_micros(s * 1_000_000)).is_some()).collect()
        };
        assert_eq!(reports(&mut stall, 100..200), [110, 170]);
        stall.progressed();
        assert!(!stall.is_failing());
        assert_eq!(reports(&mut stall, 200..215), [210]);
    }
}
