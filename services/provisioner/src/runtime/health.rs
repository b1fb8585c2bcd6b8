//! The health watch: adopts living runtimes and detects dead ones. Its first round is the adoption at the start.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::Error;
use foundry_proto::common::v1::Condition;
use foundry_sandbox::Health;
use foundry_store::WriteSet;

use super::Pumps;
use super::interruptions::{on_agent_exited, on_runtime_died};
use super::limits;
use crate::domain::{Sandbox, SandboxState};
use crate::shared::Shared;
use crate::store::{cleared, condition_value, sandboxes, sessions};

/// How long one probe may take; a provider that hangs must not stop the watch.
const PROBE_LIMIT: Duration = Duration::from_secs(8);

/// Probes every ready sandbox in rounds, until the service stops.
pub async fn watch_health(shared: Arc<Shared>) {
    let stop = shared.tasks.cancellation().clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = check_all(&shared) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.health_check_requested.notified() => {}
            () = shared.env.clock.sleep(shared.config.probe_interval) => {}
        }
    }
}

/// One round of probes over all ready sandboxes.
pub async fn check_all(shared: &Arc<Shared>) {
    match sandboxes::in_state(&shared.store, SandboxState::Ready).await {
        Ok(all) => {
            let checks = all.iter().map(|sandbox| async move {
                if let Err(e) = check(shared, sandbox).await {
                    tracing::warn!(sandbox = %sandbox.sandbox_id, error = %e, "health is not known");
                }
            });
            futures::future::join_all(checks).await;
        }
        Err(e) => tracing::warn!(error = %e, "the ledger cannot be read"),
    }
}

async fn check(shared: &Arc<Shared>, sandbox: &Sandbox) -> Result<(), Error> {
    let Some(facts) = &sandbox.facts else { return Ok(()) };
    let provider = shared.providers.get(&sandbox.provider)?;
    let health = tokio::select! {
        health = provider.probe(facts) => health.unwrap_or_else(|e| Health::Unknown { reason: e.message }),
        () = shared.env.clock.sleep(PROBE_LIMIT) => Health::Unknown {
            reason: format!("the provider did not respond within {PROBE_LIMIT:?}"),
        },
    };
    // Limits first: a reached one may be the reason why something died. A provider that hangs is not asked again.
    if !matches!(health, Health::Unknown { .. }) {
        match provider.limits(facts).await {
            Ok(report) => limits::take_in(shared, sandbox, &report).await?,
            Err(e) => tracing::warn!(sandbox = %sandbox.sandbox_id, error = %e, "its limits are not known"),
        }
    }
    match health {
        Health::Alive => {
            if is_unreachable(sandbox) {
                show(shared, sandbox, &cleared(shared.env.clock.now())).await?;
            }
            for session in sessions::of_sandbox(&shared.store, &sandbox.sandbox_id).await? {
                if !session.state.is_living() {
                    continue;
                }
                Pumps::ensure(shared, &session.session_id);
                if session.fold.down {
                    on_agent_exited(shared, &session.session_id).await?;
                }
            }
            Ok(())
        }
        Health::Dead { cause } => {
            on_runtime_died(shared, &sandbox.sandbox_id, sandbox.runtime_instance, &cause.to_string()).await
        }
        Health::Unknown { reason } => {
            tracing::warn!(sandbox = %sandbox.sandbox_id, reason, "the runtime does not respond");
            // Once, with the time at which it began.
            if is_unreachable(sandbox) {
                return Ok(());
            }
            let condition = Condition {
                reason: UNREACHABLE.to_owned(),
                message: format!("its runtime cannot be reached: {reason}"),
                since_time: Some(shared.env.clock.now().to_proto()),
                next_action:
                    "none needed if the machine is only busy; otherwise destroy the sandbox, and retry \
                              the task"
                        .to_owned(),
                ..Condition::default()
            };
            show(shared, sandbox, &condition).await
        }
    }
}

/// The reason of a sandbox that is ready and whose runtime does not respond.
const UNREACHABLE: &str = "RUNTIME_UNREACHABLE";

fn is_unreachable(sandbox: &Sandbox) -> bool {
    sandbox.condition.reason == UNREACHABLE
}

/// Shows a condition of a sandbox, unless it has just changed: then the next round decides.
async fn show(shared: &Shared, sandbox: &Sandbox, condition: &Condition) -> Result<(), Error> {
    let mut ws = WriteSet::new();
    sandboxes::update(&mut ws, sandbox, vec![("condition", condition_value(condition))]);
    match shared.store.commit(ws).await {
        Ok(_) => Ok(()),
        Err(e) if e.is_concurrent_change() => Ok(()),
        Err(e) => Err(e.into()),
    }
}
