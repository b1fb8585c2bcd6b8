//! The tasks of the slow sweeper: it repairs what lost wake-ups and races left behind, and deletes what is old.

use std::time::Duration;

use foundry_core::Error;

use crate::inner::Inner;
use crate::row::Row;
use crate::statements;
use crate::status::Transition;

/// How long a flow that is unknown here may be overdue before it is parked: another worker may know it.
const PARK_AFTER: Duration = Duration::from_secs(5);
/// Signals are kept for flows that are about to wait; no attempt lives that long.
const SIGNAL_RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Rows deleted in one statement.
const BATCH: i64 = 500;

/// Un-parks flows whose stage is known here, parks those that no worker seems to know, and applies signals that came
/// between a wait and its record. Writes nothing when there is nothing to repair.
pub(crate) async fn repair(inner: &Inner) -> Result<(), Error> {
    let now = inner.ask_now().await?;
    let overdue = now.minus(PARK_AFTER);
    if inner.store.query(inner.statements.needs_repair, &[overdue.into()]).await?.is_empty() {
        return Ok(());
    }
    for row in inner.store.write(inner.statements.unpark, &[now.into()]).await? {
        tracing::info!(flow = row.text("flow_id")?, "resuming parked flow: its stage is known here");
    }
    for row in inner.store.write(inner.statements.park, &[now.into(), overdue.into()]).await? {
        parked(inner, Row::read(&row)?).await;
    }
    inner.store.write(statements::APPLY_SIGNALS, &[now.into(), "".into()]).await?;
    Ok(())
}

/// Projects a parked flow, if its kind is still known here.
async fn parked(inner: &Inner, mut row: Row) {
    tracing::warn!(flow = %row.status.flow_id, kind = row.status.kind, stage = row.status.stage,
        "parked: no running worker knows this stage");
    let Some(bound) = inner.bounds.get(row.status.kind.as_str()) else { return };
    row.status.transition = Some(Transition::Parked);
    let shown = bound.project(&row.status);
    if shown.is_empty() {
        return;
    }
    if let Err(e) = inner.commit(shown).await {
        tracing::warn!(flow = %row.status.flow_id, error = %e, "a parked flow was not projected");
    }
}

/// Deletes flows and signals past their retention, in small batches.
pub(crate) async fn forget(inner: &Inner) -> Result<(), Error> {
    let now = inner.ask_now().await?;
    let sweeps = [
        (statements::DELETE_FINISHED, inner.options.retention),
        (statements::DELETE_SIGNALS, SIGNAL_RETENTION),
    ];
    for (sql, retention) in sweeps {
        while inner.store.write(sql, &[now.minus(retention).into(), BATCH.into()]).await?.len() == 500 {}
    }
    for (kind, bound) in &inner.bounds {
        let Some(kept) = bound.kept.filter(|kept| *kept < inner.options.retention) else { continue };
        let params = [now.minus(kept).into(), BATCH.into(), (*kind).into()];
        while inner.store.write(statements::DELETE_FINISHED_OF, &params).await?.len() == 500 {}
    }
    Ok(())
}
