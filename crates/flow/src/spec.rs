//! The table that opens every flow: its stages, their limits, and what happens when one fails.

use std::time::Duration;

/// A kind of durable flow: an ordered table of stages. Declare it as a `static` at the top of its file.
#[derive(Debug)]
pub struct Flow {
    /// Stable name of the kind, stored in every row.
    pub kind: &'static str,
    /// The stages in the order they run; undone in the reverse order.
    pub stages: &'static [StageSpec],
    /// What a terminal failure does with the stages that have run.
    pub on_failure: OnFailure,
    /// How many flows of this kind one worker runs at a time.
    pub concurrency: usize,
}

/// What a terminal failure does with the stages that have run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Leave them, so that the flow can be retried from the failed stage (a cancel still undoes them).
    Keep,
    /// Undo them in reverse order, then end as failed.
    Unwind,
}

/// One stage: its name and its limits.
#[derive(Clone, Copy, Debug)]
pub struct StageSpec {
    /// Stable name, unique in its flow; stored in the row.
    pub name: &'static str,
    /// How long one attempt may take before it counts as failed.
    pub timeout: Duration,
    /// What happens after a failed attempt.
    pub retry: Retry,
}

/// How often and how soon a failed attempt is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Delay after the first failed attempt.
    pub initial: Duration,
    /// What each further failure multiplies the delay with.
    pub factor: u32,
    /// Upper bound of the delay.
    pub max_delay: Duration,
    /// How many attempts may fail; the last failure is terminal.
    pub budget: u32,
}

impl Flow {
    /// Concurrency of a kind that does not say otherwise.
    pub const DEFAULT_CONCURRENCY: usize = 16;

    /// A flow that keeps its completed stages when one fails.
    pub const fn new(kind: &'static str, stages: &'static [StageSpec]) -> Self {
        Self { kind, stages, on_failure: OnFailure::Keep, concurrency: Self::DEFAULT_CONCURRENCY }
    }

    /// The same flow, undoing its completed stages when one fails.
    #[must_use]
    pub const fn unwinding(mut self) -> Self {
        self.on_failure = OnFailure::Unwind;
        self
    }

    /// The same flow with another limit of concurrent flows per worker.
    #[must_use]
    pub const fn concurrency(mut self, flows: usize) -> Self {
        self.concurrency = flows;
        self
    }

    /// Position of a stage in the table; none when this binary does not know the stage.
    pub fn position(&self, stage: &str) -> Option<usize> {
        self.stages.iter().position(|s| s.name == stage)
    }

    /// The name of the stage a new flow starts with.
    pub fn first_stage(&self) -> &'static str {
        self.stages.first().map_or("", |s| s.name)
    }
}

impl StageSpec {
    /// A stage with its limits.
    pub const fn new(name: &'static str, timeout: Duration, retry: Retry) -> Self {
        Self { name, timeout, retry }
    }
}

impl Retry {
    /// 250 ms doubling to 30 s, eight failures.
    pub const DEFAULT: Self = Self {
        initial: Duration::from_millis(250),
        factor: 2,
        max_delay: Duration::from_secs(30),
        budget: 8,
    };

    /// The first failure is terminal.
    pub const NEVER: Self = Self { initial: Duration::ZERO, factor: 1, max_delay: Duration::ZERO, budget: 1 };

    /// Delay before the attempt that follows the `failures`-th failure; `fraction` (0.0..1.0) spreads it
    /// over the upper half of the step, so that flows that failed together do not return together.
    pub fn delay(&self, failures: u32, fraction: f64) -> Duration {
        let step = (1..failures).try_fold(self.initial, |d, _| d.checked_mul(self.factor));
        let step = step.unwrap_or(self.max_delay).min(self.max_delay);
        step.mul_f64(0.5 + fraction / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_the_delay_up_to_its_bound_and_never_goes_below_half() {
        let retry = Retry::DEFAULT;
        assert_eq!(retry.delay(1, 0.0), Duration::from_millis(125));
        assert_eq!(retry.delay(3, 0.0), Duration::from_millis(500));
        assert_eq!(retry.delay(60, 0.999_999_999), retry.max_delay.mul_f64(0.999_999_999_5));
        assert!(retry.delay(u32::MAX / 1_000_000, 0.5) <= retry.max_delay);
    }
}
