//! One attempt: the stage's code run under its limits, and its result.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use tracing::Instrument as _;

use crate::binding::{Binding, BoundStage};
use crate::context::{StageContext, Stop, StopOrder};
use crate::inner::Inner;
use crate::lease::Held;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::row::Row;

/// The result of an attempt.
#[derive(Clone)]
#[allow(clippy::large_enum_variant)] // one per attempt
pub(crate) enum Ended {
    /// The outcome that the stage returned.
    Ran(Outcome),
    /// It was cut short by a cancel.
    Cancelled,
    /// The worker is stopping and gives the flow back.
    Released,
    /// The lease is lost: nothing may be recorded.
    Lost,
}

/// Runs one attempt of the row's stage.
pub(crate) async fn run(inner: &Arc<Inner>, bound: &Arc<Binding>, row: &mut Row, held: &Held) -> Ended {
    let Some(stage) = bound.stage(&row.status.stage) else {
        // Claims take known stages only, and transitions stay within the table.
        return Ended::Ran(Outcome::fail("STAGE_UNKNOWN", "this worker has no code for the stage"));
    };
    let stop = held.begin();
    let progress = Arc::new(Progress::new(Arc::clone(inner), Arc::clone(bound)));
    let ctx = StageContext {
        flow: inner.in_own_time(&row.status),
        stored: row.status.clone(),
        woken: row.woken,
        env: inner.env.clone(),
        stop: Arc::clone(&stop),
        progress: Arc::clone(&progress) as _,
        found: Mutex::default(),
    };
    let span = inner.options.hooks.span(&row.status);
    let ended = bounded(inner, stage.timeout, &stop, run_stage(stage, &ctx)).instrument(span).await;
    row.found = foundry_core::lock(&ctx.found).take();
    if let Some((text, at)) = progress.newest() {
        row.status.last_progress = text;
        row.status.last_progress_time = at;
    }
    judge(ended, stop.cause(), stage.timeout)
}

async fn run_stage(stage: &BoundStage, ctx: &StageContext) -> Outcome {
    let run = AssertUnwindSafe(stage.run(ctx)).catch_unwind().await;
    run.unwrap_or_else(|panic| Outcome::retry("STAGE_PANICKED", panic_text(&*panic)))
}

/// Runs the code until it ends, or until the grace period after a stop order is over.
async fn bounded(
    inner: &Inner,
    timeout: Duration,
    stop: &StopOrder,
    code: impl Future<Output = Outcome>,
) -> Option<Outcome> {
    tokio::pin!(code);
    tokio::select! {
        // A finished attempt counts as finished, also when a stop order came at the same time.
        biased;
        done = &mut code => return Some(done),
        () = stop.given() => {}
        () = inner.env.clock.sleep(timeout) => stop.give(Stop::Timeout),
    }
    // A long grace period must not outlast the lease.
    let grace = match stop.cause() {
        Some(Stop::LeaseLost) => inner.options.grace.min(Duration::from_secs(1)),
        _ => inner.options.grace,
    };
    tokio::select! {
        biased;
        done = &mut code => Some(done),
        () = inner.env.clock.sleep(grace) => None,
    }
}

/// The result of an attempt, given the stop order that it may have received.
fn judge(ended: Option<Outcome>, cause: Option<Stop>, timeout: Duration) -> Ended {
    let (Some(cause), false) = (cause, completed(ended.as_ref())) else {
        return ended.map_or(Ended::Lost, Ended::Ran);
    };
    match cause {
        Stop::LeaseLost => Ended::Lost,
        Stop::Drain => Ended::Released,
        Stop::Cancel => Ended::Cancelled,
        Stop::Timeout => {
            let message = format!("no result within {timeout:?}");
            Ended::Ran(Outcome::retry("STAGE_TIMED_OUT", message).of_class("timeout"))
        }
    }
}

/// Whether the code returned an outcome that counts in spite of a stop order: late success is adopted.
fn completed(ended: Option<&Outcome>) -> bool {
    matches!(
        ended,
        Some(Outcome::Done { .. } | Outcome::Goto { .. } | Outcome::Wait { .. } | Outcome::Fail { .. })
    )
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the stage panicked".to_owned())
}
