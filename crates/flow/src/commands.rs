//! What a service adds to its own write sets: start, signal, cancel and retry flows. All of it
//! commits with the change that caused it, and wakes the engine after the commit.

use std::time::Duration;

use foundry_core::{Env, Error, FlowId, OrganizationId};
use foundry_store::{Value, WriteSet};
use serde::Serialize;

use crate::lease::LEASE;
use crate::row::{FLOWS, SIGNALS};
use crate::spec::Flow;
use crate::status::{Status, Woken};

/// The topic that is notified when flows of a kind became due.
pub(crate) fn topic(kind: &str) -> String {
    format!("flow/{kind}")
}

/// The topic that is notified when a signal or a cancel may concern flows of any kind.
pub(crate) const ANY_TOPIC: &str = "flow";

/// A flow to start.
#[derive(Clone, Debug)]
pub struct NewFlow {
    pub(crate) kind: &'static str,
    pub(crate) first_stage: &'static str,
    pub(crate) flow_id: FlowId,
    pub(crate) key: String,
    pub(crate) organization_id: Option<OrganizationId>,
    pub(crate) subject_id: String,
    pub(crate) user_id: String,
    pub(crate) traceparent: String,
    pub(crate) input: serde_json::Value,
    delay: Option<Duration>,
    awaits: Option<Awaits>,
}

/// What a flow waits for that is inserted waiting.
#[derive(Clone, Debug)]
struct Awaits {
    key: String,
    message: String,
    at_most: Duration,
}

impl NewFlow {
    /// A flow with its id, its key (unique among the unfinished flows of the kind) and the entity it
    /// works on.
    pub fn new<C>(
        flow: &'static Flow<C>,
        flow_id: FlowId,
        key: impl Into<String>,
        subject_id: impl Into<String>,
    ) -> Self {
        Self {
            kind: flow.kind,
            first_stage: flow.first_stage(),
            flow_id,
            key: key.into(),
            organization_id: None,
            subject_id: subject_id.into(),
            user_id: String::new(),
            traceparent: String::new(),
            input: serde_json::Value::Null,
            delay: None,
            awaits: None,
        }
    }

    /// The tenant it acts for.
    #[must_use]
    pub fn organization(mut self, id: &OrganizationId) -> Self {
        self.organization_id = Some(id.clone());
        self
    }

    /// The user it acts for, as data for the audit.
    #[must_use]
    pub fn on_behalf_of(mut self, user_id: impl Into<String>) -> Self {
        self.user_id = user_id.into();
        self
    }

    /// The W3C trace context of the request that starts it.
    #[must_use]
    pub fn traced(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = traceparent.into();
        self
    }

    /// Delays the first attempt by this much after the commit, by the store's clock.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Starts at another stage than the first of the table.
    #[must_use]
    pub fn at(mut self, stage: &'static str) -> Self {
        self.first_stage = stage;
        self
    }

    /// Inserts the flow waiting at its first stage, until the key is signalled or this much time has passed. For a flow
    /// whose first stage would find nothing to do: nothing may signal the key before the commit.
    #[must_use]
    pub fn waiting_for(
        mut self,
        key: impl Into<String>,
        message: impl Into<String>,
        at_most: Duration,
    ) -> Self {
        self.awaits = Some(Awaits { key: key.into(), message: message.into(), at_most });
        self
    }

    /// What the stages read as [`crate::StageContext::input`].
    ///
    /// # Errors
    /// When the input cannot be written as JSON.
    pub fn input<T: Serialize>(mut self, input: &T) -> Result<Self, Error> {
        self.input = serde_json::to_value(input).map_err(Error::internal)?;
        Ok(self)
    }

    /// Whether its first attempt is due with the commit.
    pub(crate) fn is_due_at_once(&self) -> bool {
        self.delay.is_none() && self.awaits.is_none()
    }

    /// The flow's id.
    pub fn flow_id(&self) -> &FlowId {
        &self.flow_id
    }
}

/// Adds the start of a flow. A second unfinished flow with the same kind and key is a conflict and
/// fails the write set.
pub fn enqueue(ws: &mut WriteSet, new: NewFlow) {
    insert(ws, new, None);
}

/// The lease under which a flow is created.
pub(crate) struct FirstLease {
    pub(crate) owner: String,
    /// How long the first attempt may take.
    pub(crate) timeout: Duration,
}

/// Adds a flow, which runs from the commit on if there is a lease for it.
pub(crate) fn insert(ws: &mut WriteSet, new: NewFlow, lease: Option<FirstLease>) {
    let after = |delay: Duration| Value::After(i64::try_from(delay.as_micros()).unwrap_or(i64::MAX / 4));
    let (status, due, deadline) = match (&lease, &new.awaits, new.delay) {
        (Some(lease), ..) => (Status::Running, after(LEASE), after(lease.timeout)),
        (None, Some(awaits), _) => (Status::Waiting, after(awaits.at_most), after(awaits.at_most)),
        (None, None, Some(delay)) => (Status::Ready, after(delay), Value::Null),
        (None, None, None) => (Status::Ready, Value::Now, Value::Null),
    };
    let waits = status == Status::Waiting;
    let first = i64::from(lease.is_some());
    let ready = if lease.is_some() { Value::Now } else { due.clone() };
    let (key, message) = new.awaits.map_or((Value::Null, String::new()), |a| (a.key.into(), a.message));
    let values: Vec<Value> = vec![
        new.flow_id.into(),
        new.kind.into(),
        new.key.into(),
        new.organization_id.into(),
        new.subject_id.into(),
        new.user_id.into(),
        new.traceparent.into(),
        new.input.to_string().into_bytes().into(),
        Value::from(&b"null"[..]), // state
        status.as_str().into(),
        new.first_stage.into(),
        "".into(),    // reached
        "".into(),    // unwinding
        1.into(),     // active
        first.into(), // attempt
        0.into(),     // failures
        0.into(),     // step
        first.into(), // epoch
        lease.map_or_else(String::new, |lease| lease.owner).into(),
        due,   // due_time
        ready, // ready_time
        Woken::Start.as_str().into(),
        key,
        "".into(), // signal_seen
        deadline,
        "".into(), // class
        if waits { "WAITING" } else { "" }.into(),
        message.into(),
        "".into(),   // cause_stage
        "".into(),   // cause_reason
        "".into(),   // cause_message
        0.into(),    // cancel_requested
        Value::Now,  // started_time
        Value::Now,  // stage_started_time
        Value::Now,  // status_time
        Value::Now,  // last_progress_time
        "".into(),   // last_progress
        Value::Null, // finished_time
    ];
    ws.insert(&FLOWS, values);
    // One that waits is found when it is signalled, or by its deadline.
    if !waits {
        ws.wake(topic(new.kind));
    }
}

/// Makes every flow that waits for `key` due, in the transaction that applies the awaited change. It is no error if no
/// flow waits; a flow that begins to wait later finds the signal then.
pub fn signal(ws: &mut WriteSet, env: &Env, key: &str) {
    signal_by_name(ws, env, key);
}

/// As [`signal`]; returns the name of this signal, for [`crate::Derived::seen`].
pub fn signal_by_name(ws: &mut WriteSet, env: &Env, key: &str) -> String {
    let nonce = env.random.uuid_at(env.clock.now()).simple().to_string();
    ws.upsert(&SIGNALS, [key.into(), nonce.as_str().into(), Value::Now]);
    ws.update_where(
        &FLOWS,
        &[("wait_key", key.into()), ("status", Status::Waiting.as_str().into())],
        &[
            ("status", Status::Ready.as_str().into()),
            ("due_time", Value::Now),
            ("woken", Woken::Signal.as_str().into()),
            ("signal_seen", nonce.as_str().into()),
        ],
    );
    ws.wake(ANY_TOPIC);
    nonce
}

/// Requests the end of a flow; legal in every state. A flow that is already done or cancelled stays so; any other stops
/// its attempt and ends as cancelled.
pub fn request_cancel(ws: &mut WriteSet, flow_id: &FlowId) {
    let id = || ("flow_id", Value::from(flow_id));
    ws.update_where(&FLOWS, &[id()], &[("cancel_requested", 1.into())]);
    for status in [Status::Ready, Status::Waiting, Status::Failed] {
        ws.update_where(&FLOWS, &[id(), ("status", status.as_str().into())], &[("due_time", Value::Now)]);
    }
    ws.wake(ANY_TOPIC);
}

/// Re-arms a failed flow at its failed stage with a fresh budget. Fails the write set (tag
/// [`NOT_RETRYABLE`]) when the flow has not failed, or its cancel was requested.
pub fn retry(ws: &mut WriteSet, flow_id: &FlowId) {
    ws.update(
        &FLOWS,
        &[flow_id.into()],
        &[
            ("status", Status::Ready.as_str().into()),
            ("status_time", Value::Now),
            ("due_time", Value::Now),
            ("active", 1.into()),
            ("attempt", 0.into()),
            ("failures", 0.into()),
            ("woken", Woken::Start.as_str().into()),
            ("class", "".into()),
            ("reason", "".into()),
            ("message", "".into()),
            ("finished_time", Value::Null),
            ("stage_started_time", Value::Now),
        ],
        &[("status", Status::Failed.as_str().into()), ("cancel_requested", 0.into())],
    )
    .tag(NOT_RETRYABLE);
    ws.wake(ANY_TOPIC);
}

/// Makes the next attempt of a flow due now, which waits for it after a failed one. It has no effect on a flow that
/// runs, waits for a signal or has ended.
pub fn hasten(ws: &mut WriteSet, flow_id: &FlowId) {
    ws.update_where(
        &FLOWS,
        &[("flow_id", flow_id.into()), ("status", Status::Ready.as_str().into())],
        &[("due_time", Value::Now)],
    );
    ws.wake(ANY_TOPIC);
}

/// The tag of the guard by which [`retry`] refuses.
pub const NOT_RETRYABLE: &str = "flow_not_retryable";
