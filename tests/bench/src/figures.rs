//! Measured values: latencies, rates, and the processor time and memory of a process.

use std::time::Duration;

use crate::rest::Rested;

/// Linux counts the times in `/proc/<pid>/stat` in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// The result of one measurement; results of the same kind are merged.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    micros: Vec<u32>,
    /// Time from the first call to the last answer.
    pub elapsed: Duration,
    /// Time from the first call until the servers were at rest again.
    pub until_rest: Duration,
    /// Processor time of the servers until they were at rest.
    pub cpu: Duration,
    /// Number of slices after which the servers did not come to rest in time: part of the cost is missing.
    pub restless: u32,
    /// Number of failed operations, and the error of the first.
    pub failed: (u64, Option<String>),
}

impl Figures {
    /// Adds the latency of an operation.
    pub fn add(&mut self, took: Duration) {
        self.add_micros(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds the latency of an operation in microseconds.
    pub fn add_micros(&mut self, micros: u64) {
        self.micros.push(u32::try_from(micros).unwrap_or(u32::MAX));
    }

    /// Counts a failed operation.
    pub fn fail(&mut self, error: String) {
        self.failed.0 += 1;
        self.failed.1.get_or_insert(error);
    }

    /// Ends a slice: the time and processor time until rest. Call it once.
    pub fn rested(&mut self, rested: Rested) {
        self.cpu = rested.since.cpu;
        // Rest is sampled; it does not begin before the last answer.
        self.until_rest = rested.since.at.max(self.elapsed);
        self.restless = u32::from(!rested.in_time);
    }

    /// Merges the result of a concurrent measurement.
    pub fn merge(&mut self, other: Self) {
        self.micros.extend(other.micros);
        self.failed.0 += other.failed.0;
        self.failed.1 = self.failed.1.take().or(other.failed.1);
    }

    /// Merges the result of an earlier measurement; durations add up.
    pub fn merge_earlier(&mut self, other: Self) {
        self.elapsed += other.elapsed;
        self.until_rest += other.until_rest;
        self.cpu += other.cpu;
        self.restless += other.restless;
        self.merge(other);
    }

    /// Number of operations.
    pub fn count(&self) -> usize {
        self.micros.len()
    }

    /// The latency in milliseconds that this fraction of the operations did not exceed.
    pub fn percentile(&self, part: f64) -> f64 {
        let mut all = self.micros.clone();
        if all.is_empty() {
            return f64::NAN;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = ((all.len() - 1) as f64 * part) as usize;
        let (_, found, _) = all.select_nth_unstable(at);
        f64::from(*found) / 1_000.0
    }

    /// Operations per second while the clients called.
    pub fn burst(&self) -> f64 {
        count(self.count()) / self.elapsed.as_secs_f64()
    }

    /// Operations per second including the work that they left behind.
    pub fn sustained(&self) -> f64 {
        count(self.count()) / self.until_rest.as_secs_f64()
    }

    /// Processor time per operation until rest, in microseconds.
    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count(self.count())
    }
}

/// A count as a floating-point number.
#[allow(clippy::cast_precision_loss)] // far below 2^52
pub fn count(n: usize) -> f64 {
    n as f64
}

/// Processor time that a process has used, in user and kernel mode.
///
/// # Panics
/// When the process is gone.
pub fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    // The name in parentheses may contain spaces; utime and stime are the 12th and 13th field after it.
    let fields = stat.rsplit_once(')').expect("a stat line").1.split_whitespace();
    fields.skip(11).take(2).map(|ticks| TICK * ticks.parse::<u32>().expect("ticks")).sum()
}

/// The sum of [`cpu_of`].
pub fn cpu_of_all(pids: &[u32]) -> Duration {
    pids.iter().map(|pid| cpu_of(*pid)).sum()
}

/// Resident memory of a process in KiB.
///
/// # Panics
/// When the process is gone.
pub fn rss_of(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("a VmRSS line");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::Sample;

    #[test]
    fn the_sustained_rate_includes_what_the_burst_left_behind() {
        let mut figures = Figures { elapsed: Duration::from_secs(1), ..Figures::default() };
        (0..100).for_each(|_| figures.add(Duration::from_millis(10)));
        let since = Sample { at: Duration::from_secs(4), cpu: Duration::from_millis(500) };
        figures.rested(Rested { since, in_time: true });
        let mut all = figures.clone();
        all.merge_earlier(figures);
        assert_eq!((all.burst(), all.sustained(), all.cpu_micros()), (100.0, 25.0, 5_000.0));
        assert_eq!((all.count(), all.restless), (200, 0));
    }

    #[test]
    fn rest_does_not_begin_before_the_last_answer() {
        let mut figures = Figures { elapsed: Duration::from_secs(2), ..Figures::default() };
        figures.rested(Rested { since: Sample::default(), in_time: false });
        assert_eq!((figures.until_rest, figures.restless), (Duration::from_secs(2), 1));
    }

    #[test]
    fn reads_the_processor_time_and_memory_of_a_process() {
        let before = cpu_of(std::process::id());
        // The kernel counts in ticks of 10 ms; this uses some of them.
        while cpu_of_all(&[std::process::id()]) < before + 2 * TICK {
            std::hint::spin_loop();
        }
        assert!(rss_of(std::process::id()) > 100.0);
    }
}
