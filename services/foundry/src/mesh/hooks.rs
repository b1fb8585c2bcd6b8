//! What the flow engines do, as metrics.

use std::time::Duration;

use foundry_flow::{FlowStatus, Hooks};
use foundry_server::Metrics;

/// Counts what a flow engine does.
pub struct FlowMetrics(pub Metrics);

impl Hooks for FlowMetrics {
    fn claimed(&self, flow: &FlowStatus, queue_latency: Duration) {
        self.0.stage_claimed(&flow.kind, &flow.stage, queue_latency);
    }
}
