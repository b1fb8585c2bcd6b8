//! The faults that a proof injects, and what it observed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use foundry_store::Store;
use tokio::sync::watch;

use crate::{FailPoints, FlowStatus, Options, Point, Status, Verdict};

/// What happens at the chosen point.
#[derive(Clone)]
pub(super) enum Action {
    Nothing,
    Crash,
    Fail,
    Cancel(Store),
    Freeze(Freeze),
}

/// Holds an engine at a point until it is thawed.
#[derive(Clone)]
pub(super) struct Freeze(Arc<watch::Sender<(bool, bool)>>);

impl Default for Freeze {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new((false, false))))
    }
}

impl Freeze {
    pub(super) async fn frozen(&self) {
        let _ = self.0.subscribe().wait_for(|(frozen, _)| *frozen).await;
    }

    pub(super) fn thaw(&self) {
        self.0.send_modify(|state| state.1 = true);
    }

    pub(super) fn is_thawed(&self) -> bool {
        self.0.borrow().1
    }

    async fn hold(&self) {
        self.0.send_modify(|state| state.0 = true);
        let _ = self.0.subscribe().wait_for(|(_, thawed)| *thawed).await;
    }
}

/// Fail points that act at one point, and remember every attempt.
#[derive(Clone)]
pub(super) struct Script(Arc<Inner>);

struct Inner {
    point: Point,
    /// The stage to act at; `None` = once at each.
    stage: Option<&'static str>,
    action: Action,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    attempts: Vec<String>,
    fired_at: HashSet<String>,
    /// The flow's status and stage when the action last happened.
    fired_on: Option<(Status, String)>,
    /// Stage of the newest attempt: after its record, the flow is already at another one.
    begun: String,
}

impl Script {
    fn new(point: Point, stage: Option<&'static str>, action: Action) -> Self {
        Self(Arc::new(Inner { point, stage, action, seen: Mutex::default() }))
    }

    /// Acts at the first attempt of a stage.
    pub(super) fn once(point: Point, stage: &'static str, action: Action) -> Self {
        Self::new(point, Some(stage), action)
    }

    /// Acts at the first attempt of each stage.
    pub(super) fn at_each_stage(point: Point, action: Action) -> Self {
        Self::new(point, None, action)
    }

    /// Injects nothing, and only records the attempts.
    pub(super) fn recording() -> Self {
        Self::new(Point::BeforeEffect, None, Action::Nothing)
    }

    pub(super) fn options(&self) -> Options {
        Options { fail_points: Some(Arc::new(self.clone())), ..Options::default() }
    }

    pub(super) fn times_fired(&self) -> usize {
        self.seen().fired_at.len()
    }

    pub(super) fn status_when_fired(&self) -> Option<Status> {
        self.seen().fired_on.as_ref().map(|(status, _)| *status)
    }

    /// The stage of the first attempt that was seen.
    pub(super) fn first_stage(&self) -> Option<String> {
        self.seen().attempts.first().cloned()
    }

    pub(super) fn runs(&self, stage: &str) -> usize {
        self.seen().attempts.iter().filter(|s| *s == stage).count()
    }

    /// Whether the stage was complete when the action happened after its record: it neither waited
    /// nor was to be retried.
    pub(super) fn completed(&self, stage: &str) -> bool {
        self.seen().fired_on.as_ref().is_some_and(|(status, at)| status.is_finished() || at != stage)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        foundry_core::lock(&self.0.seen)
    }

    /// Records the point; true when the action is due here.
    fn note(&self, point: Point, flow: &FlowStatus) -> bool {
        let mut seen = self.seen();
        if point == Point::BeforeEffect {
            seen.attempts.push(flow.stage.clone());
            seen.begun.clone_from(&flow.stage);
        }
        let stage = seen.begun.clone();
        let wanted = point == self.0.point && self.0.stage.is_none_or(|s| s == stage);
        if !wanted || !seen.fired_at.insert(stage) {
            return false;
        }
        seen.fired_on = Some((flow.status, flow.stage.clone()));
        true
    }
}

#[async_trait]
impl FailPoints for Script {
    async fn reach(&self, point: Point, flow: &FlowStatus) -> Verdict {
        if !self.note(point, flow) {
            return Verdict::Continue;
        }
        match &self.0.action {
            Action::Nothing => Verdict::Continue,
            Action::Crash => Verdict::Crash,
            Action::Fail => Verdict::Fail,
            Action::Cancel(store) => {
                super::cancel(store, &flow.flow_id).await;
                Verdict::Continue
            }
            Action::Freeze(freeze) => {
                freeze.hold().await;
                Verdict::Continue
            }
        }
    }
}
