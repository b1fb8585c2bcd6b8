//! The drain, in its order:
//!
//! 1. readiness off, in health and in `/readyz`
//! 2. still serving for a moment, so that load balancers notice; skipped when no client is connected
//! 3. every service stops claiming jobs and accepting connections; those of HTTP/1 take no further request
//! 4. then, service by service:
//!    1. watches get `Drain`, spread over time; skipped when there are none
//!    2. GOAWAY, and unary calls in progress end
//!    3. jobs reach a step boundary or release their leases; background tasks end
//!    4. the store closes
//!
//! All phases share one deadline. Each logs what it waits for when it starts, and what is left when it ends.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use foundry_core::{Env, Tasks, Timestamp};
use tokio::sync::watch;

use super::phases::{Phase, Phases};
use crate::config::DrainConfig;
use crate::listen::Listener;
use crate::open_routes::Health;
use crate::stack::{Active, Kind};
use crate::telemetry::Metrics;

/// Reserved for each service that has yet to close its store.
const RESERVE: Duration = Duration::from_millis(500);
/// Time for connections to flush their last answers after the last call ended.
const FLUSH: Duration = Duration::from_secs(1);
/// Part of the time for watches that is reserved for the last of them to reconnect elsewhere and end.
const AFTER_SPREAD: Duration = Duration::from_millis(1_500);
/// Background tasks that take longer to end are named in the log.
const SLOW: Duration = Duration::from_secs(1);
/// Ids named in one log line.
const NAMED: usize = 20;

/// A service that is being served.
pub(super) struct Running {
    pub(super) name: &'static str,
    pub(super) listener: Listener,
    pub(super) active: Active,
    pub(super) health: Health,
    pub(super) phases: Phases,
    pub(super) background: Option<Tasks>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// One stop and its deadline.
pub(super) struct Drain<'a> {
    env: &'a Env,
    config: &'a DrainConfig,
    metrics: &'a Metrics,
    deadline: Timestamp,
}

impl<'a> Drain<'a> {
    pub(super) fn begin(env: &'a Env, config: &'a DrainConfig, metrics: &'a Metrics) -> Self {
        Self { env, config, metrics, deadline: env.clock.now().plus(config.total) }
    }

    /// Time until the hard bound.
    pub(super) fn left(&self) -> Duration {
        self.deadline.since(self.env.clock.now())
    }

    pub(super) async fn run(&self, mut services: Vec<Running>, ready: &watch::Sender<bool>) {
        ready.send_replace(false);
        for service in &services {
            service.health.set(false).await;
        }
        let clients: usize = services.iter().map(|s| s.listener.connections()).sum();
        if clients > 0 {
            let limit = self.config.serving_delay.min(self.left());
            self.phase("process", "serving_delay", clients, Vec::new(), async {
                self.env.clock.sleep(limit).await;
                Vec::new()
            })
            .await;
        }
        for service in &mut services {
            self.callback(service.name, "stop_claiming", service.phases.stop_claiming.take(), self.left())
                .await;
            service.listener.stop_accepting();
        }
        let mut to_close = services.len();
        for mut service in services {
            let limit = |most: Duration| most.min(self.left().saturating_sub(RESERVE * count(to_close)));
            self.drain_watches(&mut service, limit(self.config.watches)).await;
            self.finish_unary(&service, limit(self.config.unary)).await;
            self.finish_jobs(&mut service, limit(self.config.jobs)).await;
            if let Some(close) = service.phases.close_store.take() {
                // The close of a store is not cut off: the hard bound ends the process, with a log line.
                self.phase(service.name, "close_store", 1, Vec::new(), close(self.left())).await;
            }
            to_close -= 1;
        }
    }

    async fn drain_watches(&self, service: &mut Running, limit: Duration) {
        service.active.refuse_streams();
        let watching = service.active.count(Kind::Stream);
        if watching == 0 {
            return;
        }
        let active = &service.active;
        let drain_watches = service.phases.drain_watches.take();
        self.phase(service.name, "drain_watches", watching, active.sample(Kind::Stream, NAMED), async {
            let drained = async {
                if let Some(drain_watches) = drain_watches {
                    drain_watches(limit.saturating_sub(AFTER_SPREAD).max(limit / 2)).await;
                }
                active.idle(Kind::Stream).await;
            };
            // A client that never reads keeps its stream open: it is cut with its connection.
            match self.within(limit, drained).await {
                Some(()) => Vec::new(),
                None => active.sample(Kind::Stream, NAMED),
            }
        })
        .await;
    }

    async fn finish_unary(&self, service: &Running, limit: Duration) {
        let active = &service.active;
        service.listener.go_away();
        let calls = active.count(Kind::Unary);
        self.phase(service.name, "finish_unary", calls, active.sample(Kind::Unary, NAMED), async {
            let ended = async {
                active.idle(Kind::Unary).await;
                active.refuse_all();
                // A call may have entered between the two lines above.
                active.idle(Kind::Unary).await;
            };
            let left = match self.within(limit, ended).await {
                Some(()) => Vec::new(),
                None => active.sample(Kind::Unary, NAMED),
            };
            active.refuse_all();
            service.listener.close(FLUSH.min(self.left())).await;
            left
        })
        .await;
    }

    async fn finish_jobs(&self, service: &mut Running, limit: Duration) {
        let ends = self.env.clock.now().plus(limit);
        self.callback(service.name, "finish_jobs", service.phases.finish_jobs.take(), limit).await;
        if let Some(background) = service.background.take() {
            let left = ends.since(self.env.clock.now()).max(RESERVE);
            self.phase(service.name, "background", background.len(), background.names(), async {
                if background.shutdown(SLOW.min(left)).await {
                    return Vec::new();
                }
                tracing::info!(service = service.name, tasks = ?background.names(), "waiting for background tasks");
                let ended = background.shutdown(left.saturating_sub(SLOW)).await;
                if ended { Vec::new() } else { background.names() }
            })
            .await;
        }
    }

    async fn callback(
        &self,
        service: &'static str,
        name: &'static str,
        phase: Option<Phase>,
        limit: Duration,
    ) {
        let Some(phase) = phase else { return };
        self.phase(service, name, 1, Vec::new(), async {
            match self.within(limit, phase(limit)).await {
                Some(unfinished) => unfinished,
                None => vec![format!("not done after {} ms", limit.as_millis())],
            }
        })
        .await;
    }

    /// Runs one phase and logs it: what it waits for, how long it took, what is left.
    async fn phase(
        &self,
        service: &'static str,
        phase: &'static str,
        waiting_for: usize,
        ids: Vec<String>,
        run: impl Future<Output = Vec<String>>,
    ) {
        tracing::info!(service, phase, waiting_for, ?ids, "drain phase starts");
        let started = self.env.clock.now();
        let unfinished = run.await;
        let took = self.env.clock.now().since(started);
        self.metrics.drain_phase(service, phase, took);
        let took_ms = took.as_millis();
        if unfinished.is_empty() {
            tracing::info!(service, phase, took_ms, "drain phase ended");
        } else {
            tracing::warn!(service, phase, took_ms, left = unfinished.len(), ids = ?unfinished, "drain phase cut off");
        }
    }

    async fn within<F: Future>(&self, limit: Duration, run: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = run => Some(output),
            () = self.env.clock.sleep(limit) => None,
        }
    }
}

fn count(services: usize) -> u32 {
    u32::try_from(services).unwrap_or(u32::MAX)
}
