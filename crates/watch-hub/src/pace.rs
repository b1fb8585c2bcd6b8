//! The pace of one stream: a token bucket of frames.

use std::time::Duration;

use foundry_core::Timestamp;

/// How fast single deltas are sent on a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Frames that may be sent at once.
    pub burst: f64,
    /// Frames regained per second.
    pub per_second: f64,
    /// How long changes are gathered when the bucket is empty.
    pub gather: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { burst: 8.0, per_second: 100.0, gather: Duration::from_millis(25) }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    frames: f64,
    filled_at: Timestamp,
}

impl Bucket {
    pub(crate) fn full(pace: &Pace, now: Timestamp) -> Self {
        Self { frames: pace.burst, filled_at: now }
    }

    /// Takes one frame; false if the stream has to gather first.
    pub(crate) fn take(&mut self, pace: &Pace, now: Timestamp) -> bool {
        let gained = now.since(self.filled_at).as_secs_f64() * pace.per_second;
        self.frames = (self.frames + gained).min(pace.burst);
        self.filled_at = now;
        if self.frames < 1.0 {
            return false;
        }
        self.frames -= 1.0;
        true
    }

    /// Takes a frame for gathered changes, which are sent even when the bucket is empty.
    pub(crate) fn take_gathered(&mut self, pace: &Pace, now: Timestamp) {
        if !self.take(pace, now) {
            self.frames = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_a_burst_through_and_then_the_refill_only() {
        let pace = Pace::default();
        let start = Timestamp::from_micros(0);
        let mut bucket = Bucket::full(&pace, start);
        let taken = (0..100).filter(|_| bucket.take(&pace, start)).count();
        assert_eq!(taken, 8);
        let later = start.plus(Duration::from_millis(30));
        let taken = (0..100).filter(|_| bucket.take(&pace, later)).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn never_holds_more_than_the_burst() {
        let pace = Pace::default();
        let start = Timestamp::from_micros(0);
        let mut bucket = Bucket::full(&pace, start);
        let later = start.plus(Duration::from_secs(3600));
        assert_eq!((0..100).filter(|_| bucket.take(&pace, later)).count(), 8);
    }
}
