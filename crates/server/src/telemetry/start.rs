//! Sets up the process's subscriber and exporters from configuration.

use std::io::IsTerminal as _;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tonic::metadata::MetadataMap;
use tracing::Subscriber;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use super::{Metrics, export};
use crate::config::{LogFormat, TelemetryConfig};

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `telemetry.log_filter` is not a valid filter.
    #[error("telemetry.log_filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Another subscriber is installed already.
    #[error("telemetry was started twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
    /// `telemetry.otlp_authorization` is not a valid header value.
    #[error("telemetry.otlp_authorization is not a valid header value")]
    Authorization,
    /// An exporter could not be built.
    #[error("an exporter could not start: {0}")]
    Exporter(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The running telemetry of a process.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Metrics,
    exported: Option<Exported>,
}

#[derive(Debug)]
struct Exported {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
}

impl Telemetry {
    /// Installs the process's subscriber; call once, inside the runtime. `name` is the process's name in traces.
    ///
    /// # Errors
    /// When the filter or the endpoint is unusable, or a subscriber is installed already.
    pub fn start(config: &TelemetryConfig, name: &'static str) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::try_new(&config.log_filter)?;
        let (metrics, exported) = export_to(config, name)?;
        let spans =
            exported.as_ref().map(|e| tracing_opentelemetry::layer().with_tracer(e.traces.tracer("foundry")));
        let records = exported.as_ref().map(|e| {
            // Exporting a line must not produce lines to export.
            let ours = filter_fn(|metadata| metadata.target().starts_with("foundry"));
            OpenTelemetryTracingBridge::new(&e.logs).with_filter(ours)
        });
        tracing_subscriber::registry()
            .with(filter)
            .with(lines(config.log_format, std::io::stderr))
            .with(spans)
            .with(records)
            .try_init()?;
        if exported.is_some() {
            export::exporting();
        }
        Ok(Self { metrics, exported })
    }

    /// The metrics handle.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Sends what is still buffered; blocks, so call it at the very end, off the runtime's threads.
    pub fn flush(&self) {
        let Some(exported) = &self.exported else { return };
        let ends = [exported.traces.shutdown(), exported.logs.shutdown(), self.metrics.provider().shutdown()];
        for error in ends.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "telemetry was not flushed");
        }
    }
}

/// The layer that prints log lines; every line carries the ids of its request.
fn lines<S, W>(format: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // Colours only in a terminal.
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours);
    match format {
        LogFormat::Human => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    }
}

/// Metrics always; traces and logs only where an endpoint is configured.
fn export_to(
    config: &TelemetryConfig,
    name: &'static str,
) -> Result<(Metrics, Option<Exported>), TelemetryError> {
    let endpoint = config.otlp_endpoint.as_str();
    if endpoint.is_empty() {
        return Ok((Metrics::new()?, None));
    }
    let mut metadata = MetadataMap::new();
    let authorization = config.otlp_authorization.expose();
    if !authorization.is_empty() {
        metadata.insert("authorization", authorization.parse().map_err(|_| TelemetryError::Authorization)?);
    }
    let failed = |e| TelemetryError::Exporter(Box::new(e));
    macro_rules! exporter {
        ($kind:ident) => {
            opentelemetry_otlp::$kind::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .with_metadata(metadata.clone())
                .build()
                .map_err(failed)?
        };
    }
    let resource = Resource::builder().with_service_name(name).build();
    let (spans, records, points) =
        (exporter!(SpanExporter), exporter!(LogExporter), exporter!(MetricExporter));
    let metrics =
        Metrics::build(|builder| builder.with_resource(resource.clone()).with_periodic_exporter(points))?;
    let traces =
        SdkTracerProvider::builder().with_resource(resource.clone()).with_batch_exporter(spans).build();
    let logs = SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(records).build();
    Ok((metrics, Some(Exported { traces, logs })))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use foundry_core::Env;
    use http::Request;
    use tonic::body::Body;
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::ServerConfig;
    use crate::{Routed, Service};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_request_writes_one_line_and_every_line_in_it_carries_its_ids_and_caller() {
        let captured = Captured::default();
        let writer = captured.clone();
        let layer = lines(LogFormat::Json, move || writer.clone());
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

        let authenticate = tower::layer::layer_fn(|_: Routed| {
            tower::service_fn(|_: Request<Body>| async {
                tracing::Span::current().record("caller", "usr_1");
                tracing::info!("inside");
                Ok::<_, Infallible>(foundry_core::Error::not_found("task", "t").into_status().into_http())
            })
        });
        let service =
            Service::new("task", ["s"], tonic::service::Routes::default()).authenticated_by(authenticate);
        let mounted =
            service.mount(&ServerConfig::default(), &Env::system(), &Metrics::new().unwrap()).await.unwrap();
        let request = Request::post("/foundry.task.v1.TaskService/GetTask")
            .header("x-request-id", "r-1")
            .header("content-type", "application/grpc")
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            .body(Body::empty())
            .unwrap();
        drop(mounted.upstream().oneshot(request).await.unwrap());

        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let ours = |line: &serde_json::Value| line["target"].as_str().unwrap().starts_with("foundry");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).filter(ours).collect();
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["inside", "request"]);
        for line in &lines {
            assert_eq!(line["span"]["request_id"], "r-1", "{line}");
            assert_eq!(line["span"]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736", "{line}");
            assert_eq!(line["span"]["caller"], "usr_1", "{line}");
        }
        assert_eq!(lines[1]["method"], "/foundry.task.v1.TaskService/GetTask");
        assert_eq!(lines[1]["code"], "NOT_FOUND");
        assert!(lines[1]["duration_ms"].as_f64().unwrap() > 0.0);
    }
}
