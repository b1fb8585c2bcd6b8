//! Extension points of the engine: events for metrics, and fail points for tests.

use std::time::Duration;

use async_trait::async_trait;

use crate::status::{FlowStatus, Transition};

/// Callbacks for the engine's events; the server attaches metrics here. Must not block.
pub trait Hooks: Send + Sync + 'static {
    /// A due flow was claimed this long after it became due.
    fn claimed(&self, _flow: &FlowStatus, _queue_latency: Duration) {}

    /// An attempt ended, with the transition that was recorded.
    fn attempt_ended(&self, _flow: &FlowStatus, _stage: &str, _ended: Transition, _took: Duration) {}

    /// The number of running flows of a kind changed.
    fn active(&self, _kind: &'static str, _flows: usize) {}

    /// The span an attempt runs in; the server sets the stored trace context as its parent.
    fn span(&self, flow: &FlowStatus) -> tracing::Span {
        tracing::info_span!(
            "stage",
            flow = %flow.flow_id,
            kind = flow.kind,
            stage = flow.stage,
            attempt = flow.attempt,
            subject = flow.subject_id,
            traceparent = flow.traceparent,
        )
    }
}

/// Ignores every event.
#[derive(Clone, Copy, Debug)]
pub struct NoHooks;

impl Hooks for NoHooks {}

/// A moment in an attempt at which a test may stop the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// The attempt is recorded as begun, its code has not run.
    BeforeEffect,
    /// The code has run, nothing of it is recorded.
    AfterEffect,
    /// The transition is committed.
    AfterRecord,
}

/// What the engine does at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Continue as without a fail point.
    Continue,
    /// Stop the engine for good, as if its process had been killed.
    Crash,
    /// Fail the attempt for good, whatever its code does or did. Ignored after the record.
    Fail,
}

/// Decides at each point; may also block the engine there for a while (a frozen owner).
#[async_trait]
pub trait FailPoints: Send + Sync + 'static {
    /// Called at every point of every attempt.
    async fn reach(&self, point: Point, flow: &FlowStatus) -> Verdict;
}
