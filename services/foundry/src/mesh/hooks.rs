//! Metrics of flow engines and watches.

use std::time::Duration;

use foundry_flow::{FlowStatus, Hooks};
use foundry_server::Metrics;
use foundry_watch::{Beginning, Observer, Reconnect};
use tonic::Code;

/// Records the queue latency of each claimed stage.
pub struct FlowMetrics(pub Metrics);

impl Hooks for FlowMetrics {
    fn claimed(&self, flow: &FlowStatus, queue_latency: Duration) {
        self.0.stage_claimed(&flow.kind, &flow.stage, queue_latency);
    }
}

/// Records metrics of watches, served and consumed.
#[derive(Debug)]
pub struct WatchMetrics(pub Metrics);

impl Observer for WatchMetrics {
    fn opened(&self, view: &'static str, beginning: Beginning) {
        let beginning = match beginning {
            Beginning::New => "new",
            Beginning::Resumed => "resumed",
            Beginning::Reset => "reset",
        };
        self.0.watch_opened(view, beginning);
    }

    fn closed(&self, view: &'static str) {
        self.0.watch_closed(view);
    }

    fn reconnected(&self, view: &'static str, why: Reconnect) {
        let lost = match why {
            Reconnect::Drained => None,
            Reconnect::Lost(code) => Some(code),
        };
        self.0.watch_reconnected(view, lost);
    }

    fn stalled(&self, view: &'static str, code: Code) {
        self.0.watch_stalled(view, code);
    }

    fn updated(&self, view: &'static str, took: Duration) {
        self.0.projection_updated(view, took);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use foundry_core::{Env, Tasks};
    use foundry_proto::task::v1::TaskItem;
    use foundry_store::{Scope, Store, StoreOptions};
    use foundry_watch::{Consumer, ConsumerConfig, Event, Unrestricted};
    use foundry_watch_hub::{Fingerprint, FrameStream, Hub, HubConfig, TableView};
    use tonic::Status;

    use super::*;

    fn shows(metrics: &Metrics, line: &str) -> bool {
        metrics.prometheus_text().lines().any(|l| l == line)
    }

    #[tokio::test]
    async fn counts_a_watch_while_it_is_open() {
        let (dir, env, metrics) = (tempfile::tempdir().unwrap(), Env::system(), Metrics::new().unwrap());
        let url = format!("sqlite:{}", dir.path().join("watched.db").display());
        let store = Store::connect(&url, &[], &env, StoreOptions::default()).await.unwrap();
        let observer = Arc::new(WatchMetrics(metrics.clone()));
        let config = HubConfig { observer, ..HubConfig::default() };
        let hub = Hub::new(store, env, Tasks::new().0, config);
        let view = TableView::new("WatchTask", Scope::service("task"), Fingerprint::new("WatchTask", 1));
        let (one, other) = (
            hub.watch(view.clone(), None, Unrestricted).unwrap(),
            hub.watch(view, None, Unrestricted).unwrap(),
        );
        assert!(shows(&metrics, "foundry_watches{view=\"WatchTask\"} 2"));
        drop(one);
        assert!(shows(&metrics, "foundry_watches{view=\"WatchTask\"} 1"));
        drop(other);
        assert!(shows(&metrics, "foundry_watches{view=\"WatchTask\"} 0"));
        assert!(shows(&metrics, "foundry_watch_starts_total{beginning=\"new\",view=\"WatchTask\"} 2"));
    }

    #[tokio::test]
    async fn counts_each_reconnect_of_a_consumer_with_its_reason() {
        let (metrics, refused) = (Metrics::new().unwrap(), AtomicBool::new(false));
        let config = ConsumerConfig::new("WatchTask").observed_by(Arc::new(WatchMetrics(metrics.clone())));
        let tasks = Tasks::new().0;
        let mut consumer = Consumer::<TaskItem>::start(&tasks, Env::system(), config, move |_| {
            let again = refused.swap(true, Ordering::Relaxed);
            async move {
                if again {
                    std::future::pending::<()>().await;
                }
                Err::<FrameStream, _>(Status::unavailable("away"))
            }
        });
        assert!(matches!(consumer.next().await, Ok(Event::Disconnected { .. })));
        let line = "foundry_watch_reconnects_total{reason=\"UNAVAILABLE\",view=\"WatchTask\"} 1";
        assert!(shows(&metrics, line), "{}", metrics.prometheus_text());
    }

    #[test]
    fn counts_stalls_by_view_and_reason() {
        let metrics = Metrics::new().unwrap();
        WatchMetrics(metrics.clone()).stalled("WatchSandboxes", Code::OutOfRange);
        let line = "foundry_watch_stalls_total{reason=\"OUT_OF_RANGE\",view=\"WatchSandboxes\"} 1";
        assert!(shows(&metrics, line), "{}", metrics.prometheus_text());
    }

    #[test]
    fn tells_how_long_updates_took() {
        let metrics = Metrics::new().unwrap();
        WatchMetrics(metrics.clone()).updated("WatchOrganization", Duration::from_millis(4));
        let line =
            "foundry_projection_update_duration_seconds_bucket{view=\"WatchOrganization\",le=\"0.005\"} 1";
        assert!(shows(&metrics, line), "{}", metrics.prometheus_text());
    }
}
