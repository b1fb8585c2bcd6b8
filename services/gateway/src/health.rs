//! Checks the health of each service behind the gateway, and reports it as the gateway's own health for that service.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use foundry_core::{Env, Tasks};
use foundry_server::{Health, Upstream};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::routes::RouteTable;

/// Longest wait for a response.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Time between two checks of a service that fails.
const RECHECK: Duration = Duration::from_millis(250);

/// Starts a check for each service, which counts as failing until its first good response.
pub(crate) async fn watch_over(
    routes: &RouteTable,
    upstreams: &BTreeMap<&'static str, Upstream>,
    health: &Health,
    interval: Duration,
    env: &Env,
    tasks: &Tasks,
) {
    for (name, upstream) in upstreams {
        let check = Check {
            name,
            client: HealthClient::new(upstream.clone()),
            services: routes.served_by(name),
            health: health.clone(),
            interval,
            env: env.clone(),
        };
        check.report(false).await;
        let stop = tasks.cancellation().clone();
        tasks.spawn("upstream health", async move {
            // The check runs until the service stops.
            stop.run_until_cancelled(check.run()).await;
        });
    }
}

struct Check {
    name: &'static str,
    client: HealthClient<Upstream>,
    services: BTreeSet<String>,
    health: Health,
    interval: Duration,
    env: Env,
}

impl Check {
    async fn run(self) {
        let mut worked = false;
        loop {
            let works = self.works().await;
            if works != worked {
                tracing::info!(upstream = self.name, works, "health of a service changed");
                self.report(works).await;
                worked = works;
            }
            self.env.clock.sleep(if works { self.interval } else { RECHECK.min(self.interval) }).await;
        }
    }

    async fn works(&self) -> bool {
        let mut client = self.client.clone();
        tokio::select! {
            answer = client.check(HealthCheckRequest::default()) => {
                answer.is_ok_and(|a| a.into_inner().status() == ServingStatus::Serving)
            }
            () = self.env.clock.sleep(ANSWER_LIMIT) => false,
        }
    }

    async fn report(&self, works: bool) {
        for service in &self.services {
            self.health.report(service, works).await;
        }
    }
}
