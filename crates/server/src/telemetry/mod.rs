//! Logs, traces and metrics.

mod context;
mod export;
mod metrics;
mod start;
mod trace;

pub use context::{REQUEST_ID, RequestContext, TRACEPARENT};
pub use metrics::Metrics;
pub use start::{Telemetry, TelemetryError};
pub use trace::TraceContext;
