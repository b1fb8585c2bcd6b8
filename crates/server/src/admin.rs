//! The admin routes: liveness, readiness and metrics.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;

use crate::lifecycle::Readiness;
use crate::telemetry::Metrics;

pub(crate) fn router(readiness: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route(
            "/readyz",
            get(move || async move {
                if readiness.is_ready() {
                    (StatusCode::OK, "ready\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move {
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.prometheus_text())
            }),
        )
}
