//! The wait before the next attempt: full jitter over a doubling bound.

use std::time::Duration;

use foundry_core::Random;

const FIRST: Duration = Duration::from_millis(250);
/// The bound of the wait by default.
pub(super) const CAP: Duration = Duration::from_secs(30);

/// The waits between attempts at one operation: 250 ms at most, doubling to 30 s, each a random part of its bound.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::capped(CAP)
    }
}

impl Backoff {
    /// One that doubles to this bound in place of 30 s.
    pub fn capped(cap: Duration) -> Self {
        Self { failures: 0, cap }
    }

    /// The next wait.
    pub fn next(&mut self, random: &dyn Random) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(16)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(random.fraction())
    }

    /// Makes the next wait random over the largest range.
    pub(crate) fn raise_to_cap(&mut self) {
        self.failures = self.failures.max(16);
    }

    /// Resets the bound after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foundry_core::Timestamp;

    struct Always(f64);
    impl Random for Always {
        fn fill(&self, buf: &mut [u8]) {
            buf.fill(0);
        }
        fn fraction(&self) -> f64 {
            self.0
        }
        fn uuid_at(&self, _: Timestamp) -> uuid::Uuid {
            uuid::Uuid::nil()
        }
    }

    #[test]
    fn doubles_to_thirty_seconds_and_starts_anew_after_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.next(&Always(1.0)).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        backoff.reset();
        assert_eq!(backoff.next(&Always(0.5)).as_millis(), 125);
    }

    #[test]
    fn doubles_to_the_bound_that_it_is_given() {
        let mut backoff = Backoff::capped(Duration::from_secs(1));
        let waits: Vec<_> = (0..4).map(|_| backoff.next(&Always(1.0)).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 1000]);
        backoff.raise_to_cap();
        assert_eq!(backoff.next(&Always(1.0)).as_millis(), 1000);
    }
}
