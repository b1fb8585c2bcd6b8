//! Sets up the process's subscriber and exporters from configuration.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tonic::metadata::MetadataMap;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use super::{Metrics, export};
use crate::config::{LogFormat, TelemetryConfig};

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `telemetry.log_filter` is no filter.
    #[error("telemetry.log_filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Another subscriber is installed already.
    #[error("telemetry was started twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
    /// `telemetry.otlp_authorization` cannot stand in a header.
    #[error("telemetry.otlp_authorization cannot stand in a header")]
    Authorization,
    /// An exporter could not be built.
    #[error("an exporter could not start: {0}")]
    Exporter(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The running telemetry of a process.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Metrics,
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Installs the process's subscriber; call once, inside the runtime. `name` is what traces call this process.
    ///
    /// # Errors
    /// When the filter or the endpoint is unusable, or a subscriber is installed already.
    pub fn start(config: &TelemetryConfig, name: &'static str) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::try_new(&config.log_filter)?;
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = match config.log_format {
            LogFormat::Human => lines.boxed(),
            LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        };
        let exporters = Exporters::build(config, name)?;
        let (metrics, traces) = match exporters {
            None => (Metrics::new()?, None),
            Some(exporters) => {
                let metrics = Metrics::build(|builder| {
                    builder
                        .with_resource(exporters.resource.clone())
                        .with_periodic_exporter(exporters.metrics)
                })?;
                let traces = SdkTracerProvider::builder()
                    .with_resource(exporters.resource)
                    .with_batch_exporter(exporters.spans)
                    .build();
                (metrics, Some(traces))
            }
        };
        let spans = traces.as_ref().map(|t| tracing_opentelemetry::layer().with_tracer(t.tracer("foundry")));
        tracing_subscriber::registry().with(filter).with(lines).with(spans).try_init()?;
        if traces.is_some() {
            export::exporting();
        }
        Ok(Self { metrics, traces })
    }

    /// The metrics handle.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Sends what is still buffered; blocks, so call it at the very end, off the runtime's threads.
    pub fn flush(&self) {
        if let Some(traces) = &self.traces {
            let ends = [traces.shutdown(), self.metrics.provider().shutdown()];
            for error in ends.into_iter().filter_map(Result::err) {
                tracing::warn!(%error, "telemetry was not flushed");
            }
        }
    }
}

struct Exporters {
    spans: opentelemetry_otlp::SpanExporter,
    metrics: opentelemetry_otlp::MetricExporter,
    resource: Resource,
}

impl Exporters {
    fn build(config: &TelemetryConfig, name: &'static str) -> Result<Option<Self>, TelemetryError> {
        let endpoint = config.otlp_endpoint.as_str();
        if endpoint.is_empty() {
            return Ok(None);
        }
        let mut metadata = MetadataMap::new();
        if !config.otlp_authorization.expose().is_empty() {
            let value =
                config.otlp_authorization.expose().parse().map_err(|_| TelemetryError::Authorization)?;
            metadata.insert("authorization", value);
        }
        let failed = |e| TelemetryError::Exporter(Box::new(e));
        Ok(Some(Self {
            spans: opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .with_metadata(metadata.clone())
                .build()
                .map_err(failed)?,
            metrics: opentelemetry_otlp::MetricExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .with_metadata(metadata)
                .build()
                .map_err(failed)?,
            resource: Resource::builder().with_service_name(name).build(),
        }))
    }
}
