//! The metrics of one process, named after the questions of operators; one set of instruments, read as Prometheus text
//! and, where configured, exported over OTLP.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider as _, UpDownCounter};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder as _, Registry, TextEncoder};
use tonic::Code;

use super::TelemetryError;
use crate::service::ReadCounts;
use crate::stack::code_name;

/// Bounds in seconds: from a local call to a slow provisioning stage.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

/// Handle to the instruments; cloning shares them.
#[derive(Clone)]
pub struct Metrics(Arc<Instruments>);

struct Instruments {
    registry: Registry,
    provider: SdkMeterProvider,
    meter: Meter,
    requests: Counter<u64>,
    duration: Histogram<f64>,
    active: UpDownCounter<i64>,
    connections: UpDownCounter<i64>,
    accept_failures: Counter<u64>,
    refusals: Counter<u64>,
    tls: TlsInstruments,
    watches: UpDownCounter<i64>,
    watch_starts: Counter<u64>,
    reconnects: Counter<u64>,
    stalls: Counter<u64>,
    projection: Histogram<f64>,
    queue: Histogram<f64>,
    bootstrap: Histogram<f64>,
    drain: Histogram<f64>,
}

struct TlsInstruments {
    handshake_failures: Counter<u64>,
    reloads: Counter<u64>,
    unusable: UpDownCounter<i64>,
}

impl TlsInstruments {
    fn new(meter: &Meter) -> Self {
        Self {
            handshake_failures: meter
                .u64_counter("foundry_handshake_failures")
                .with_description(
                    "Connections that did not get through the handshake of TLS, by service: no TLS at all, or a certificate \
                     that one side refused.",
                )
                .build(),
            reloads: meter
                .u64_counter("foundry_certificate_reloads")
                .with_description("New certificates that were taken from their files, by service.")
                .build(),
            unusable: meter
                .i64_up_down_counter("foundry_certificate_files_unusable")
                .with_description(
                    "1 while the files of a service's certificates cannot be used and the old ones are.",
                )
                .build(),
        }
    }
}

impl Metrics {
    /// Instruments read as Prometheus text only.
    ///
    /// # Errors
    /// When the exporter cannot be registered.
    pub fn new() -> Result<Self, TelemetryError> {
        Self::build(|builder| builder)
    }

    pub(super) fn build(
        add_readers: impl FnOnce(
            opentelemetry_sdk::metrics::MeterProviderBuilder,
        ) -> opentelemetry_sdk::metrics::MeterProviderBuilder,
    ) -> Result<Self, TelemetryError> {
        let registry = Registry::new();
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|e| TelemetryError::Exporter(Box::new(e)))?;
        let provider = add_readers(SdkMeterProvider::builder().with_reader(reader)).build();
        let meter = provider.meter("foundry");
        let seconds = |name: &'static str, description: &'static str| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(description)
                .with_boundaries(SECONDS.to_vec())
                .build()
        };
        let gauge = |name: &'static str, description: &'static str| {
            meter.i64_up_down_counter(name).with_description(description).build()
        };
        Ok(Self(Arc::new(Instruments {
            requests: meter
                .u64_counter("foundry_requests")
                .with_description("Finished requests by service, method and code.")
                .build(),
            duration: seconds(
                "foundry_request_duration",
                "Time from a request's head to the end of its response.",
            ),
            active: gauge(
                "foundry_active_requests",
                "Requests in progress by service and kind (unary, stream).",
            ),
            connections: gauge("foundry_connections", "Open connections by service."),
            accept_failures: meter
                .u64_counter("foundry_accept_failures")
                .with_description(
                    "Connections that could not be accepted, mostly for want of file descriptors.",
                )
                .build(),
            refusals: meter
                .u64_counter("foundry_refusals")
                .with_description(
                    "Requests and connections that a limit of a server refused, by service and limit as in the \
                     configuration; for limits of connections, also idle ones that were closed to make room.",
                )
                .build(),
            tls: TlsInstruments::new(&meter),
            watches: gauge("foundry_watches", "Open watches by view."),
            watch_starts: meter
                .u64_counter("foundry_watch_starts")
                .with_description("Watches opened here, by view and start (new, resumed, reset).")
                .build(),
            reconnects: meter
                .u64_counter("foundry_watch_reconnects")
                .with_description("Streams from other services that were opened again, by view and reason.")
                .build(),
            stalls: meter
                .u64_counter("foundry_watch_stalls")
                .with_description(
                    "Views that could not be read, followed or applied for 10 s, counted again each minute, by view \
                     and reason.",
                )
                .build(),
            projection: seconds(
                "foundry_projection_update_duration",
                "Time to update a projection, by the view it consumes or serves.",
            ),
            queue: seconds("foundry_flow_queue_latency", "Time a due stage waited until a worker took it."),
            bootstrap: seconds(
                "foundry_bootstrap_duration",
                "Time from the start of the process to serving.",
            ),
            drain: seconds("foundry_drain_duration", "Time of each phase of a stop."),
            registry,
            provider,
            meter,
        })))
    }

    /// Records a finished request.
    pub fn request_finished(
        &self,
        service: &'static str,
        method: &'static str,
        code: &'static str,
        took: Duration,
    ) {
        let labels =
            [KeyValue::new("service", service), KeyValue::new("method", method), KeyValue::new("code", code)];
        self.0.requests.add(1, &labels);
        self.0.duration.record(took.as_secs_f64(), &labels[..2]);
    }

    /// Records that a request started (`1`) or ended (`-1`); `kind` is `unary` or `stream`.
    pub fn active_changed(&self, service: &'static str, kind: &'static str, by: i64) {
        self.0.active.add(by, &[KeyValue::new("service", service), KeyValue::new("kind", kind)]);
    }

    /// Records that a connection was accepted (`1`) or closed (`-1`).
    pub fn connections_changed(&self, service: &'static str, by: i64) {
        self.0.connections.add(by, &[KeyValue::new("service", service)]);
    }

    /// Records that a connection could not be accepted.
    pub fn accept_failed(&self, service: &'static str) {
        self.0.accept_failures.add(1, &[KeyValue::new("service", service)]);
    }

    /// Records that a limit of a server, named as in the configuration, refused a request or a connection, or closed an
    /// idle connection to make room.
    pub fn refused(&self, service: &'static str, limit: &'static str) {
        self.0.refusals.add(1, &[KeyValue::new("service", service), KeyValue::new("limit", limit)]);
    }

    /// Records that a connection did not get through the handshake of TLS.
    pub fn handshake_failed(&self, service: &'static str) {
        self.0.tls.handshake_failures.add(1, &[KeyValue::new("service", service)]);
    }

    /// Records that new certificates are in use.
    pub fn tls_reloaded(&self, service: &'static str) {
        self.0.tls.reloads.add(1, &[KeyValue::new("service", service)]);
    }

    /// Records that the files of the certificates became unusable (`1`), or usable again (`-1`).
    pub fn tls_unusable_changed(&self, service: &'static str, by: i64) {
        self.0.tls.unusable.add(by, &[KeyValue::new("service", service)]);
    }

    /// Records that a watch of a view was opened: `new`, `resumed` at a position, or `reset` when the position was no
    /// longer valid.
    pub fn watch_opened(&self, view: &'static str, beginning: &'static str) {
        self.0.watches.add(1, &[KeyValue::new("view", view)]);
        self.0.watch_starts.add(1, &[KeyValue::new("view", view), KeyValue::new("beginning", beginning)]);
    }

    /// Records the end of a watch that was opened.
    pub fn watch_closed(&self, view: &'static str) {
        self.0.watches.add(-1, &[KeyValue::new("view", view)]);
    }

    /// Records that a stream from another service is reopened, since it was lost with this code; none = it was drained.
    pub fn watch_reconnected(&self, view: &'static str, lost: Option<Code>) {
        let reason = lost.map_or("drained", code_name);
        self.0.reconnects.add(1, &[KeyValue::new("view", view), KeyValue::new("reason", reason)]);
    }

    /// Records that a view has made no progress for 10 s, or for another minute, since it fails with this code.
    pub fn watch_stalled(&self, view: &'static str, code: Code) {
        self.0.stalls.add(1, &[KeyValue::new("view", view), KeyValue::new("reason", code_name(code))]);
    }

    /// Records an update of a projection.
    pub fn projection_updated(&self, view: &'static str, took: Duration) {
        self.0.projection.record(took.as_secs_f64(), &[KeyValue::new("view", view)]);
    }

    /// Records that a worker claimed a stage that had been due for `waited`.
    pub fn stage_claimed(&self, flow: &str, stage: &str, waited: Duration) {
        let labels = [KeyValue::new("flow", flow.to_owned()), KeyValue::new("stage", stage.to_owned())];
        self.0.queue.record(waited.as_secs_f64(), &labels);
    }

    /// Records that the process is ready, and how long that took.
    pub fn bootstrapped(&self, took: Duration) {
        self.0.bootstrap.record(took.as_secs_f64(), &[]);
    }

    /// Records a phase of the stop.
    pub fn drain_phase(&self, service: &'static str, phase: &'static str, took: Duration) {
        let labels = [KeyValue::new("service", service), KeyValue::new("phase", phase)];
        self.0.drain.record(took.as_secs_f64(), &labels);
    }

    /// Reads the counters of a service's database whenever metrics are collected.
    pub(crate) fn observe_store(&self, service: &'static str, read: ReadCounts) {
        // The meter keeps its observers for as long as it lives.
        let _ = self
            .0
            .meter
            .u64_observable_counter("foundry_store_work")
            .with_description(
                "What services' databases did, by kind: commits (transactions), write_sets and statements, rolled_back \
                 (batches that ran again one by one), long_reads (begun again on a thread of their own), loads (aggregates \
                 read whole).",
            )
            .with_callback(move |observer| {
                for (kind, count) in read() {
                    observer.observe(count, &[KeyValue::new("service", service), KeyValue::new("kind", kind)]);
                }
            })
            .build();
    }

    /// The meter, for an instrument that only one service has.
    pub fn meter(&self) -> &Meter {
        &self.0.meter
    }

    /// All metrics in the Prometheus text format.
    pub fn prometheus_text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.0.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics cannot be printed");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    pub(super) fn provider(&self) -> &SdkMeterProvider {
        &self.0.provider
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_was_recorded_as_prometheus_text() {
        let metrics = Metrics::new().unwrap();
        metrics.request_finished(
            "task",
            "/foundry.task.v1.TaskService/GetTask",
            "OK",
            Duration::from_millis(2),
        );
        metrics.stage_claimed("sandbox", "repo_prepared", Duration::from_millis(30));
        metrics.watch_opened("organization", "new");
        metrics.watch_opened("task", "new");
        metrics.watch_closed("task");
        for service in ["auth", "task"] {
            let commits = service.len() as u64;
            metrics.observe_store(service, Arc::new(move || vec![("commits", commits), ("loads", 7)]));
        }
        let text = metrics.prometheus_text();
        for line in [
            "foundry_requests_total{code=\"OK\",method=\"/foundry.task.v1.TaskService/GetTask\",service=\"task\"} 1",
            "foundry_request_duration_seconds_bucket{method=\"/foundry.task.v1.TaskService/GetTask\",service=\"task\",le=\"0.0025\"} 1",
            "foundry_flow_queue_latency_seconds_bucket{flow=\"sandbox\",stage=\"repo_prepared\",le=\"0.05\"} 1",
            "foundry_watches{view=\"organization\"} 1",
            "foundry_watches{view=\"task\"} 0",
            "foundry_store_work_total{kind=\"commits\",service=\"auth\"} 4",
            "foundry_store_work_total{kind=\"loads\",service=\"task\"} 7",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
