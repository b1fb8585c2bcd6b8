//! Logs, traces and metrics.

mod context;
mod export;
mod metrics;
mod start;
mod trace;

pub(crate) use context::REQUEST_ID;
pub use context::RequestContext;
pub use metrics::Metrics;
pub use start::{Telemetry, TelemetryError};
pub use trace::TraceContext;
