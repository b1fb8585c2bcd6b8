//! One attempt: the stage's code run under its limits, and what became of it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tracing::Instrument as _;

use crate::context::{StageContext, Stop, StopOrder};
use crate::inner::Inner;
use crate::lease::Held;
use crate::outcome::{Outcome, Undo};
use crate::progress::Progress;
use crate::row::Row;
use crate::spec::StageSpec;
use crate::stage::{Bound, Stage};

/// What an attempt came to.
#[derive(Clone)]
pub(crate) enum Ended {
    /// The stage's own answer.
    Ran(Outcome),
    /// The undo's own answer.
    Undid(Undo),
    /// A cancel cut it short.
    Cancelled,
    /// The stopping worker gives it back.
    Released,
    /// The lease is lost: nothing may be recorded.
    Lost,
}

/// Runs one attempt of the row's stage, forward or undo.
pub(crate) async fn run(inner: &Arc<Inner>, bound: &Arc<Bound>, row: &mut Row, held: &Held) -> Ended {
    let Some((_, spec, stage)) = bound.stage(&row.status.stage) else {
        // Claims take known stages only, and transitions stay within the table.
        return Ended::Ran(Outcome::fail("STAGE_UNKNOWN", "this worker has no code for the stage"));
    };
    let undoing = row.status.unwinding.is_some();
    let stop = held.begin(undoing);
    let progress = Arc::new(Progress::new(Arc::clone(inner), Arc::clone(bound)));
    let ctx = StageContext {
        flow: inner.in_own_time(&row.status),
        stored: row.status.clone(),
        woken: row.woken,
        env: inner.env.clone(),
        stop: Arc::clone(&stop),
        progress: Arc::clone(&progress) as _,
    };
    let span = inner.options.hooks.span(&row.status);
    let ended = match undoing {
        false => bounded(inner, spec, &stop, run_stage(stage, &ctx)).instrument(span).await.map(Ended::Ran),
        true => bounded(inner, spec, &stop, undo_stage(stage, &ctx)).instrument(span).await.map(Ended::Undid),
    };
    if let Some((text, at)) = progress.newest() {
        row.status.last_progress = text;
        row.status.last_progress_time = at;
    }
    judge(ended, stop.cause(), undoing, spec)
}

async fn run_stage(stage: &Arc<dyn Stage>, ctx: &StageContext) -> Outcome {
    let run = AssertUnwindSafe(stage.run(ctx)).catch_unwind().await;
    run.unwrap_or_else(|panic| Outcome::retry("STAGE_PANICKED", panic_text(&*panic)))
}

async fn undo_stage(stage: &Arc<dyn Stage>, ctx: &StageContext) -> Undo {
    let undo = AssertUnwindSafe(stage.undo(ctx)).catch_unwind().await;
    undo.unwrap_or_else(|panic| Undo::Retry {
        reason: "STAGE_PANICKED".to_owned(),
        message: panic_text(&*panic),
    })
}

/// Runs the code until it ends, or for the grace period after it was told to stop.
async fn bounded<T>(
    inner: &Inner,
    spec: &StageSpec,
    stop: &StopOrder,
    code: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(code);
    tokio::select! {
        // A finished attempt counts as finished, also when it was told to stop meanwhile.
        biased;
        done = &mut code => return Some(done),
        () = stop.given() => {}
        () = inner.env.clock.sleep(spec.timeout) => stop.give(Stop::Timeout),
    }
    // The lease ends sooner than a generous grace period might.
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

/// Reads an attempt's end in the light of the order it may have been given.
fn judge(ended: Option<Ended>, cause: Option<Stop>, undoing: bool, spec: &StageSpec) -> Ended {
    let (Some(cause), false) = (cause, completed(ended.as_ref())) else {
        return ended.unwrap_or(Ended::Lost);
    };
    match cause {
        Stop::LeaseLost => Ended::Lost,
        Stop::Drain => Ended::Released,
        Stop::Cancel => Ended::Cancelled,
        Stop::Timeout => {
            let message = format!("no result within {:?}", spec.timeout);
            let reason = "STAGE_TIMED_OUT".to_owned();
            if undoing {
                Ended::Undid(Undo::Retry { reason, message })
            } else {
                Ended::Ran(Outcome::Retry { reason, message, after: None })
            }
        }
    }
}

/// Whether the code reached a result that counts, whatever it was told: late success is adopted.
fn completed(ended: Option<&Ended>) -> bool {
    matches!(
        ended,
        Some(
            Ended::Ran(
                Outcome::Done { .. } | Outcome::Goto { .. } | Outcome::Wait { .. } | Outcome::Fail { .. }
            ) | Ended::Undid(Undo::Done { .. })
        )
    )
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the stage panicked".to_owned())
}
