//! A clock that a test moves by hand.

use std::time::Duration;

use foundry_core::{Clock, Timestamp};
use tokio::sync::watch;

/// Turns that other tasks get between two steps of the clock.
const YIELDS: u32 = 32;

/// A clock for tests: [`MockClock::advance`] moves it and wakes the sleepers whose time has come.
pub struct MockClock {
    now: watch::Sender<i64>,
    sleepers: watch::Sender<usize>,
}

impl Default for MockClock {
    fn default() -> Self {
        Self::at(Timestamp::from_micros(1_767_225_600_000_000))
    }
}

impl MockClock {
    /// A clock that is stopped at the given time.
    pub fn at(now: Timestamp) -> Self {
        Self { now: watch::Sender::new(now.as_micros()), sleepers: watch::Sender::new(0) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, d: Duration) {
        self.now.send_modify(|now| *now = Timestamp::from_micros(*now).plus(d).as_micros());
    }

    /// Sets the clock, also backwards, as a wall clock may be set.
    pub fn set(&self, t: Timestamp) {
        self.now.send_replace(t.as_micros());
    }

    /// How many timers are waiting.
    pub fn sleepers(&self) -> usize {
        *self.sleepers.borrow()
    }

    /// Completes once at least `n` timers are waiting: the moment to advance without a race.
    pub async fn wait_for_sleepers(&self, n: usize) {
        let mut sleepers = self.sleepers.subscribe();
        // The sender lives as long as this clock.
        let _ = sleepers.wait_for(|count| *count >= n).await;
    }

    /// Advances in steps, each once this many timers are waiting, until it holds. Returns the time that has passed.
    ///
    /// # Panics
    /// When it still does not hold after `most`.
    pub async fn advance_until(
        &self,
        step: Duration,
        most: Duration,
        sleepers: usize,
        mut holds: impl FnMut() -> bool,
    ) -> Duration {
        let begun = self.now();
        loop {
            self.wait_for_sleepers(sleepers).await;
            let passed = self.now().since(begun);
            if holds() {
                return passed;
            }
            assert!(passed < most, "it does not hold after {passed:?}");
            self.advance(step);
            // Those whose time has come run before the next step.
            for _ in 0..YIELDS {
                tokio::task::yield_now().await;
            }
        }
    }
}

struct Sleeping<'a>(&'a MockClock);

impl<'a> Sleeping<'a> {
    fn new(clock: &'a MockClock) -> Self {
        clock.sleepers.send_modify(|n| *n += 1);
        Self(clock)
    }
}

impl Drop for Sleeping<'_> {
    fn drop(&mut self) {
        self.0.sleepers.send_modify(|n| *n -= 1);
    }
}

#[async_trait::async_trait]
impl Clock for MockClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(*self.now.borrow())
    }

    async fn sleep(&self, d: Duration) {
        let until = self.now().plus(d).as_micros();
        let mut now = self.now.subscribe();
        let _sleeping = Sleeping::new(self);
        // The sender lives as long as this clock.
        let _ = now.wait_for(|now| *now >= until).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn wakes_a_sleeper_only_when_its_time_has_come() {
        let clock = MockClock::default();
        let mut sleep = clock.sleep(Duration::from_secs(10));
        assert!(sleep.as_mut().now_or_never().is_none());
        clock.wait_for_sleepers(1).await;
        clock.advance(Duration::from_secs(9));
        assert!(sleep.as_mut().now_or_never().is_none());
        clock.advance(Duration::from_secs(1));
        sleep.await;
        assert_eq!(clock.sleepers(), 0);
    }

    #[tokio::test]
    async fn advances_step_by_step_until_it_holds() {
        let (clock, slept, second) = (MockClock::default(), Cell::new(0), Duration::from_secs(1));
        let sleeper = async {
            loop {
                clock.sleep(2 * second).await;
                slept.set(slept.get() + 1);
            }
        };
        tokio::select! {
            () = sleeper => {}
            passed = clock.advance_until(second, 60 * second, 1, || slept.get() == 3) => {
                assert_eq!(passed, 6 * second);
            }
        }
    }

    #[tokio::test]
    async fn forgets_a_timer_that_is_dropped() {
        let clock = MockClock::default();
        let mut sleep = clock.sleep(Duration::from_secs(1));
        assert!(sleep.as_mut().now_or_never().is_none());
        drop(sleep);
        assert_eq!(clock.sleepers(), 0);
    }
}
