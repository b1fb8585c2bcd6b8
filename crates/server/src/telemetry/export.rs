//! The bridge to OpenTelemetry spans, which exist only while traces are exported.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::trace::TraceContext;

/// Set once, together with the process's subscriber; saves look-ups when nothing is exported.
static EXPORTING: AtomicBool = AtomicBool::new(false);

pub(super) fn exporting() {
    EXPORTING.store(true, Ordering::Relaxed);
}

/// Makes an exported span the child of the caller's one.
pub(super) fn adopt_parent(span: &Span, parent: TraceContext) {
    if !EXPORTING.load(Ordering::Relaxed) {
        return;
    }
    let (trace, id, sampled) = parent.to_raw();
    let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let context = SpanContext::new(
        TraceId::from_bytes(trace),
        SpanId::from_bytes(id),
        flags,
        true,
        TraceState::default(),
    );
    // A span that is filtered out has no parent to set.
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(context));
}

/// The position of the exported span in which the current code runs.
pub(super) fn current_span() -> Option<TraceContext> {
    if !EXPORTING.load(Ordering::Relaxed) {
        return None;
    }
    let context = Span::current().context();
    let span = context.span().span_context().clone();
    span.is_valid().then(|| {
        TraceContext::from_raw(span.trace_id().to_bytes(), span.span_id().to_bytes(), span.is_sampled())
    })
}
