//! Forgets deliveries of webhooks after seven days, once an hour.

use std::time::Duration;

use foundry_core::{FlowId, Result};
use foundry_flow::{Flow, NewFlow, Outcome, Retry, Stage, StageContext, stage};
use foundry_store::{CommitError, WriteSet};

use crate::context::Context;
use crate::store::webhooks;

/// Key and subject are [`KEY`]; there is one for all webhooks.
pub static FORGET: Flow<Context> = Flow::new(
    "webhook_retention",
    &[Stage::new(
        "resting",
        Duration::from_secs(60),
        Retry {
            initial: Duration::from_secs(10),
            factor: 2,
            max_delay: Duration::from_secs(3600),
            // Nothing else would start it again before the next start of the service.
            budget: u32::MAX,
        },
        |cx, flow| stage(forget(cx, flow)),
    )],
)
.concurrency(1);

/// What the flow waits for; nothing signals it.
const KEY: &str = "repo/webhook_retention";
const EACH: Duration = Duration::from_secs(3600);

/// Starts the flow unless it is there.
///
/// # Errors
/// When the database fails.
pub async fn ensure(cx: &Context) -> Result<()> {
    if foundry_flow::unfinished(&cx.store, &FORGET, KEY).await?.is_empty() {
        let mut ws = WriteSet::new();
        foundry_flow::enqueue(&mut ws, NewFlow::new(&FORGET, FlowId::generate(&cx.env), KEY, KEY));
        match cx.store.commit(ws).await {
            // Another process was faster.
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

async fn forget(cx: &Context, _: &StageContext) -> Result<Outcome> {
    let now = cx.env.clock.now();
    webhooks::forget(&cx.store, now.minus(webhooks::KEPT)).await?;
    Ok(Outcome::wait(KEY, "the next hour").because("RESTING").until(now.plus(EACH)))
}
