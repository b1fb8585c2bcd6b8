//! Flows that run from the commit that creates them, without a claim of their own.
//!
//! Such a flow is written as this process's: running, under a lease. The wake-up of the commit, or at the latest the
//! sweeper, lets the engine find it. When the process dies in between, the lease ends like any other.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use foundry_core::{FlowId, Timestamp, lock};
use foundry_store::WriteSet;

use crate::commands::{FirstLease, NewFlow, insert};
use crate::inner::Inner;
use crate::lease::{LEASE, MARGIN, RENEWAL};
use crate::status::{FlowStatus, Status, Transition};

/// Creates flows that run at once. Make one per service, and give it to its engine in [`crate::Options`]; cloning
/// shares it. Without a running engine, flows are only enqueued.
#[derive(Clone, Default)]
pub struct Starter(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    engine: Weak<Inner>,
    coming: Vec<Coming>,
    /// Kinds of which flows may be waiting to be claimed.
    closed: BTreeSet<&'static str>,
}

/// A flow whose commit may come.
#[derive(Clone)]
pub(crate) struct Coming {
    pub(crate) flow_id: FlowId,
    pub(crate) kind: &'static str,
    /// When it was created: the lease is trusted from then on.
    pub(crate) created: Timestamp,
}

impl Coming {
    /// Whether the lease lasts until the next renewal.
    fn is_trusted(&self, now: Timestamp) -> bool {
        now < self.created.plus(LEASE).minus(MARGIN).minus(RENEWAL)
    }
}

impl Starter {
    /// Adds a flow as [`crate::enqueue`] does. If this process has room for it, its first attempt begins with the commit:
    /// then the status is returned in which it is created, and the caller writes what the flow's projection shows of it.
    #[must_use = "what a flow that begins shows is to be written"]
    pub fn enqueue(&self, ws: &mut WriteSet, new: NewFlow) -> Option<FlowStatus> {
        let granted = self.grant(&new);
        let status = granted.as_ref().map(|(lease, now)| begun(&new, lease.timeout, *now));
        insert(ws, new, granted.map(|(lease, _)| lease));
        status
    }

    /// A lease for the flow's first attempt, and the store's time.
    fn grant(&self, new: &NewFlow) -> Option<(FirstLease, Timestamp)> {
        let mut state = lock(&self.0);
        let inner = state.engine.upgrade().filter(|inner| inner.claims())?;
        let bound = inner.bounds.get(new.kind).filter(|_| new.is_due_at_once())?;
        let timeout = bound.stage(new.first_stage)?.timeout;
        let coming = state.coming.iter().filter(|coming| coming.kind == new.kind).count();
        let full = coming + inner.leases.count(new.kind) >= bound.concurrency;
        if full || state.closed.contains(new.kind) {
            return None;
        }
        let created = inner.env.clock.now();
        state.coming.push(Coming { flow_id: new.flow_id.clone(), kind: new.kind, created });
        Some((FirstLease { owner: inner.owner.clone(), timeout }, inner.now()))
    }

    pub(crate) fn attach(&self, inner: &Arc<Inner>) {
        lock(&self.0).engine = Arc::downgrade(inner);
    }

    /// The flows whose commits may have come. Those that did not come in time are forgotten.
    pub(crate) fn coming(&self, now: Timestamp) -> Vec<Coming> {
        let mut state = lock(&self.0);
        state.coming.retain(|coming| coming.is_trusted(now));
        state.coming.clone()
    }

    /// How many flows of a kind may still come.
    pub(crate) fn count(&self, kind: &str) -> usize {
        lock(&self.0).coming.iter().filter(|coming| coming.kind == kind).count()
    }

    /// Flows of the kind are only enqueued from now on.
    pub(crate) fn close(&self, kind: &'static str) {
        lock(&self.0).closed.insert(kind);
    }

    /// Ends what [`Starter::close`] began.
    pub(crate) fn open(&self, kind: &str) {
        lock(&self.0).closed.remove(kind);
    }

    /// Gives back the room of a flow whose commit has come, or has failed. Otherwise that is assumed after some seconds.
    pub fn forget(&self, flow_id: &FlowId) {
        lock(&self.0).coming.retain(|coming| coming.flow_id != *flow_id);
    }
}

/// The flow as it is created.
fn begun(new: &NewFlow, timeout: Duration, now: Timestamp) -> FlowStatus {
    FlowStatus {
        flow_id: new.flow_id.clone(),
        kind: new.kind.to_owned(),
        key: new.key.clone(),
        organization_id: new.organization_id.clone(),
        subject_id: new.subject_id.clone(),
        user_id: new.user_id.clone(),
        traceparent: new.traceparent.clone(),
        input: new.input.clone(),
        state: serde_json::Value::Null,
        status: Status::Running,
        transition: Some(Transition::Started),
        stage: new.first_stage.to_owned(),
        completed_stage: None,
        attempt: 1,
        failures: 0,
        epoch: 1,
        started_time: now,
        stage_started_time: now,
        status_time: now,
        last_progress_time: now,
        last_progress: String::new(),
        deadline: Some(now.plus(timeout)),
        due_time: None,
        wait_key: None,
        class: String::new(),
        reason: String::new(),
        message: String::new(),
        cancel_requested: false,
        finished_time: None,
    }
}
