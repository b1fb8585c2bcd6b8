//! When processes are at rest again, and the processor time that they used until then.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::figures::cpu_of_all;
use crate::world::settle;

/// Processes are at rest when they used less than this in `WINDOW`.
const QUIET: Duration = Duration::from_millis(20);
const WINDOW: Duration = Duration::from_millis(500);
/// How often the processor time is read.
const SAMPLING: Duration = Duration::from_millis(100);
/// Longest wait for rest; what is left to do then is not counted, and the figure says so.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// The same for a peer: it may be busy by itself.
pub const PATIENCE_WITH_PEERS: Duration = Duration::from_secs(20);

/// Processor time that was used up to a point in time; both count from the start of the measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Time since the start.
    pub at: Duration,
    /// Processor time used since the start.
    pub cpu: Duration,
}

/// The end of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rested {
    /// The beginning of the quiet window, or the last sample when none came.
    pub since: Sample,
    /// Whether the processes came to rest in time.
    pub in_time: bool,
}

/// Waits until the samples show rest, or are older than `patience`. The quiet window itself is not counted: what is
/// used in it is the cost of being at rest.
pub async fn until_rest(patience: Duration, mut next: impl AsyncFnMut() -> Sample) -> Rested {
    let mut window: VecDeque<Sample> = VecDeque::new();
    loop {
        let now = next().await;
        window.push_back(now);
        while window.get(1).is_some_and(|second| now.at.saturating_sub(second.at) >= WINDOW) {
            window.pop_front();
        }
        let first = window.front().copied().unwrap_or(now);
        let long_enough = now.at.saturating_sub(first.at) >= WINDOW;
        if long_enough && now.cpu.saturating_sub(first.cpu) < QUIET {
            return Rested { since: first, in_time: true };
        }
        if now.at >= patience {
            return Rested { since: now, in_time: false };
        }
    }
}

/// A running measurement of some processes.
pub struct Meter {
    begun: Instant,
    servers: Vec<u32>,
    cpu: Duration,
}

impl Meter {
    /// Begins now.
    pub fn start(servers: &[u32]) -> Self {
        Self { begun: Instant::now(), servers: servers.to_vec(), cpu: cpu_of_all(servers) }
    }

    /// When it began.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Waits until the processes are at rest, or `patience` is over.
    pub async fn until_rest(&self, patience: Duration) -> Rested {
        let mut pause = Duration::ZERO;
        until_rest(patience, async || {
            // The first sample is that of the last answer.
            settle(std::mem::replace(&mut pause, SAMPLING)).await;
            let cpu = cpu_of_all(&self.servers).saturating_sub(self.cpu);
            Sample { at: self.begun.elapsed(), cpu }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Samples every 100 ms, with the milliseconds of processor time used in each of these intervals, then none.
    fn script(used: &[u64]) -> impl AsyncFnMut() -> Sample {
        let mut used = used.iter().copied();
        let mut sample = Sample::default();
        async move || {
            sample.at += SAMPLING;
            sample.cpu += Duration::from_millis(used.next().unwrap_or(0));
            sample
        }
    }

    fn sample(at: u64, cpu: u64) -> Sample {
        Sample { at: Duration::from_millis(at), cpu: Duration::from_millis(cpu) }
    }

    #[tokio::test]
    async fn rest_begins_after_the_last_work() {
        let rested = until_rest(LONG, script(&[100, 100, 30])).await;
        assert_eq!(rested, Rested { since: sample(300, 230), in_time: true });
    }

    #[tokio::test]
    async fn work_in_the_background_counts_although_it_pauses() {
        // 400 ms of silence are not rest.
        let rested = until_rest(LONG, script(&[100, 0, 0, 0, 0, 50, 0, 0, 0, 40])).await;
        assert_eq!(rested, Rested { since: sample(1_000, 190), in_time: true });
    }

    #[tokio::test]
    async fn a_little_work_is_rest() {
        let rested = until_rest(LONG, script(&[100, 3, 4, 3, 4, 3, 4, 3])).await;
        assert_eq!(rested, Rested { since: sample(100, 100), in_time: true });
        // 20 ms in 500 ms are too much.
        let rested = until_rest(LONG, script(&[100, 4, 4, 4, 4, 4, 4])).await;
        assert_eq!(rested.since, sample(300, 108));
    }

    #[tokio::test]
    async fn the_wait_is_bounded_and_the_result_says_so() {
        let rested = until_rest(Duration::from_secs(2), script(&[50; 100])).await;
        assert_eq!(rested, Rested { since: sample(2_000, 1_000), in_time: false });
    }

    #[tokio::test]
    async fn a_process_that_does_nothing_rests_from_the_first_sample() {
        assert_eq!(until_rest(LONG, script(&[])).await.since, sample(100, 0));
    }
}
