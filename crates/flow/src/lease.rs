//! The leases that this worker holds, and how long it may rely on each of them.
//!
//! The time is counted by the local clock from the moment the claim or renewal was *sent*, so it is over before the
//! lease expires in the database, however long the answer took.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{FlowId, Timestamp, lock};

use crate::context::{Stop, StopOrder};

/// How long a claim or renewal holds.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// How often leases are renewed.
pub(crate) const RENEWAL: Duration = Duration::from_secs(3);
/// How long before that time is over an attempt is ordered to stop.
pub(crate) const MARGIN: Duration = Duration::from_secs(2);

/// One held flow.
pub(crate) struct Held {
    pub(crate) flow_id: FlowId,
    pub(crate) kind: &'static str,
    pub(crate) epoch: i64,
    state: Mutex<State>,
}

struct State {
    trusted_until: Timestamp,
    ordered: Option<Stop>,
    attempt: Option<Arc<StopOrder>>,
}

impl Held {
    /// Begins an attempt; orders from before it began reach it at once.
    pub(crate) fn begin(&self) -> Arc<StopOrder> {
        let order = Arc::new(StopOrder::default());
        let mut state = lock(&self.state);
        if let Some(cause) = state.ordered {
            order.give(cause);
        }
        state.attempt = Some(Arc::clone(&order));
        order
    }

    /// Orders the running attempt, and any later one, to stop. A lost lease outranks other causes.
    pub(crate) fn order(&self, cause: Stop) {
        let mut state = lock(&self.state);
        if state.ordered.is_none() || cause == Stop::LeaseLost {
            state.ordered = Some(cause);
        }
        if let Some(attempt) = &state.attempt {
            attempt.give(cause);
        }
    }

    /// Whether a cancel of the flow reached this worker.
    pub(crate) fn cancel_ordered(&self) -> bool {
        lock(&self.state).ordered == Some(Stop::Cancel)
    }

    pub(crate) fn trusted(&self, now: Timestamp) -> bool {
        let state = lock(&self.state);
        state.ordered != Some(Stop::LeaseLost) && now < state.trusted_until
    }
}

/// All flows that this worker holds.
#[derive(Default)]
pub(crate) struct Leases {
    held: Mutex<HashMap<FlowId, Arc<Held>>>,
}

impl Leases {
    /// Adds a flow that was claimed by a statement sent at `sent`.
    pub(crate) fn take(
        &self,
        flow_id: &FlowId,
        kind: &'static str,
        epoch: i64,
        sent: Timestamp,
    ) -> Arc<Held> {
        let state = State { trusted_until: sent.plus(LEASE), ordered: None, attempt: None };
        let held = Arc::new(Held { flow_id: flow_id.clone(), kind, epoch, state: Mutex::new(state) });
        if let Some(older) = lock(&self.held).insert(flow_id.clone(), Arc::clone(&held)) {
            // Our lease expired and we claimed the flow again: the attempt under the older epoch must stop.
            older.order(Stop::LeaseLost);
        }
        held
    }

    /// Removes a flow, unless a newer claim already holds it.
    pub(crate) fn release(&self, held: &Held) {
        let mut all = lock(&self.held);
        if all.get(&held.flow_id).is_some_and(|h| h.epoch == held.epoch) {
            all.remove(&held.flow_id);
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Held>> {
        lock(&self.held).values().cloned().collect()
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        lock(&self.held).values().filter(|h| h.kind == kind).count()
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.held).len()
    }

    /// Applies the answer to a renewal sent at `sent` for `asked`: flows missing from it are lost.
    pub(crate) fn renewed(
        &self,
        asked: &[Arc<Held>],
        sent: Timestamp,
        answer: &HashMap<FlowId, (i64, bool)>,
    ) {
        for held in asked {
            match answer.get(&held.flow_id) {
                Some((epoch, cancel)) if *epoch == held.epoch => {
                    lock(&held.state).trusted_until = sent.plus(LEASE);
                    if *cancel {
                        held.order(Stop::Cancel);
                    }
                }
                _ => held.order(Stop::LeaseLost),
            }
        }
    }

    /// Stops the attempts whose lease is about to expire; returns when the next one is due.
    pub(crate) fn expire(&self, now: Timestamp) -> Option<Timestamp> {
        let mut next = None;
        for held in self.all() {
            let stop_at = lock(&held.state).trusted_until.minus(MARGIN);
            if now >= stop_at {
                held.order(Stop::LeaseLost);
            } else {
                next = Some(next.map_or(stop_at, |n: Timestamp| n.min(stop_at)));
            }
        }
        next
    }
}
