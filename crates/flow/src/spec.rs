//! The table that opens every flow: its stages, each with its function and its limits.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::binding::Binding;
use crate::context::StageContext;
use crate::outcome::Outcome;

/// A kind of durable flow: an ordered table of stages, whose functions share the context `C`. Declare it as a `static`
/// at the top of its file.
#[derive(Debug)]
pub struct Flow<C: 'static> {
    /// Stable name of the kind, stored in every row.
    pub kind: &'static str,
    /// The stages in the order they run. A failure keeps the effects of completed stages, so that the flow can be
    /// retried from the failed stage; cleaning up is a flow of its own.
    pub stages: &'static [Stage<C>],
    /// How many flows of this kind one worker runs at a time.
    pub concurrency: usize,
    /// Whether its stages are expected to end at once: that one begins is then projected only if it lasts.
    pub brief: bool,
    /// How long ended flows of this kind are kept, if shorter than those of others.
    pub kept: Option<Duration>,
}

/// The function of a stage. It may run more than once: effects are create-or-get by [`StageContext::effect_name`], and
/// are recorded in a row first when a crash could leave them unnoticed. It ends soon after
/// [`StageContext::cancellation`] is cancelled, or is dropped.
pub type Run<C> = for<'a> fn(&'a Arc<C>, &'a StageContext) -> BoxFuture<'a, Outcome>;

/// One stage: its name, its limits and its function.
#[derive(Debug)]
pub struct Stage<C: 'static> {
    /// Stable name, unique in its flow; stored in the row.
    pub name: &'static str,
    /// How long one attempt may take before it counts as failed.
    pub timeout: Duration,
    /// What happens after a failed attempt.
    pub retry: Retry,
    /// The function that performs it.
    pub run: Run<C>,
}

/// How often and how soon a failed attempt is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Delay after the first failed attempt.
    pub initial: Duration,
    /// Factor by which each further failure multiplies the delay.
    pub factor: u32,
    /// Upper bound of the delay.
    pub max_delay: Duration,
    /// How many attempts may fail; the last failure is terminal.
    pub budget: u32,
}

impl<C> Flow<C> {
    /// Concurrency of a kind that does not set its own.
    pub const DEFAULT_CONCURRENCY: usize = 16;

    /// A flow of these stages.
    pub const fn new(kind: &'static str, stages: &'static [Stage<C>]) -> Self {
        Self { kind, stages, concurrency: Self::DEFAULT_CONCURRENCY, brief: false, kept: None }
    }

    /// The same flow with another limit of concurrent flows per worker.
    #[must_use]
    pub const fn concurrency(mut self, flows: usize) -> Self {
        self.concurrency = flows;
        self
    }

    /// The same flow, whose rows are deleted so long after its end: for kinds that run often and by themselves.
    #[must_use]
    pub const fn kept_for(mut self, time: Duration) -> Self {
        self.kept = Some(time);
        self
    }

    /// The same flow with stages that are expected to end at once.
    #[must_use]
    pub const fn brief(mut self) -> Self {
        self.brief = true;
        self
    }

    /// The name of the stage a new flow starts with.
    pub fn first_stage(&self) -> &'static str {
        self.stages.first().map_or("", |s| s.name)
    }
}

impl<C: Send + Sync> Flow<C> {
    /// The flow with the context of its functions, ready for an engine.
    pub fn bind(&'static self, on: &Arc<C>) -> Binding {
        Binding::new(self, on)
    }
}

impl<C> Stage<C> {
    /// A stage with its limits and its function; [`stage`] makes one from an async function.
    pub const fn new(name: &'static str, timeout: Duration, retry: Retry, run: Run<C>) -> Self {
        Self { name, timeout, retry, run }
    }
}

/// The function of a stage from an async one: `|cx, ctx| stage(prepare(cx, ctx))`. Its error becomes the [`Outcome`]
/// that it converts to.
pub fn stage<'a, E: Into<Outcome>>(
    code: impl Future<Output = Result<Outcome, E>> + Send + 'a,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move { code.await.unwrap_or_else(Into::into) })
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
