//! Measured values: latencies, rates, and the processor time and memory of a process.

use std::time::Duration;

/// Linux counts the times in `/proc/<pid>/stat` in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// The result of one measurement; results of the same kind are merged.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    micros: Vec<u32>,
    /// Duration of the measurement.
    pub elapsed: Duration,
    /// Processor time of the serving process.
    pub cpu: Duration,
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

    /// Merges the result of a concurrent measurement.
    pub fn merge(&mut self, other: Self) {
        self.micros.extend(other.micros);
        self.failed.0 += other.failed.0;
        self.failed.1 = self.failed.1.take().or(other.failed.1);
    }

    /// Merges the result of an earlier measurement; durations add up.
    pub fn merge_earlier(&mut self, other: Self) {
        self.elapsed += other.elapsed;
        self.cpu += other.cpu;
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

    /// Operations per second.
    pub fn rate(&self) -> f64 {
        count(self.count()) / self.elapsed.as_secs_f64()
    }

    /// Processor time per operation in microseconds.
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

/// Resident memory of a process in KiB.
///
/// # Panics
/// When the process is gone.
pub fn rss_of(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("a VmRSS line");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
}
