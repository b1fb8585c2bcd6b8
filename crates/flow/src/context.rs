//! What a stage can read and report while it runs.

use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use foundry_core::{Env, Error, FlowId, OrganizationId};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::binding::Found;
use crate::status::{FlowStatus, Woken};

/// Why a running attempt was ordered to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A user or a service requested the cancel.
    Cancel,
    /// The lease is lost or about to expire: nothing the attempt still does will be recorded.
    LeaseLost,
    /// The worker is stopping and the drain limit is reached.
    Drain,
    /// The attempt took longer than the stage allows.
    Timeout,
}

/// A one-shot order to stop, with its cause.
#[derive(Debug, Default)]
pub(crate) struct StopOrder {
    token: CancellationToken,
    cause: OnceLock<Stop>,
}

impl StopOrder {
    /// Gives the order; a later cause does not replace the first.
    pub(crate) fn give(&self, cause: Stop) {
        let _ = self.cause.set(cause);
        self.token.cancel();
    }

    pub(crate) fn cause(&self) -> Option<Stop> {
        self.cause.get().copied()
    }

    pub(crate) async fn given(&self) {
        self.token.cancelled().await;
    }
}

/// Receives the progress that a stage reports.
#[async_trait]
pub(crate) trait Says: Send + Sync {
    async fn say(&self, flow: &FlowStatus, text: String);
}

/// The view a running attempt has of its flow and of the engine.
pub struct StageContext {
    /// Its times are converted to the worker's clock, with which stages compare them.
    pub(crate) flow: FlowStatus,
    /// Its times are the store's, for what is recorded beside it.
    pub(crate) stored: FlowStatus,
    pub(crate) woken: Woken,
    pub(crate) env: Env,
    pub(crate) stop: Arc<StopOrder>,
    pub(crate) progress: Arc<dyn Says>,
    pub(crate) found: Mutex<Option<Found>>,
}

impl StageContext {
    /// The flow's id.
    pub fn flow_id(&self) -> &FlowId {
        &self.flow.flow_id
    }

    /// The flow as it was stored when the attempt started. Its times are converted to the clock of
    /// [`StageContext::env`], which may differ from the store's.
    pub fn flow(&self) -> &FlowStatus {
        &self.flow
    }

    /// The tenant the flow acts for.
    ///
    /// # Errors
    /// When the flow acts for no tenant.
    pub fn organization_id(&self) -> Result<&OrganizationId, Error> {
        self.flow.organization_id.as_ref().ok_or_else(|| {
            Error::precondition("NO_ORGANIZATION", &self.flow.kind, "this flow has no organization")
        })
    }

    /// Id of the entity the flow works on.
    pub fn subject_id(&self) -> &str {
        &self.flow.subject_id
    }

    /// The input the flow was enqueued with.
    ///
    /// # Errors
    /// When the stored input has another shape (an older or newer binary wrote it).
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, Error> {
        read(&self.flow.input, "FLOW_INPUT_UNREADABLE", &self.flow.kind)
    }

    /// The state that earlier stages left.
    ///
    /// # Errors
    /// When there is none yet or it has another shape.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T, Error> {
        read(&self.flow.state, "FLOW_STATE_UNREADABLE", &self.flow.kind)
    }

    /// Which attempt of the stage this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.flow.attempt
    }

    /// The lease's fencing number, for external systems that can fence by it.
    pub fn epoch(&self) -> i64 {
        self.flow.epoch
    }

    /// Why this attempt runs.
    pub fn woken(&self) -> Woken {
        self.woken
    }

    /// The name under which this stage creates its external effect: the same at every attempt.
    pub fn effect_name(&self) -> String {
        self.effect_name_of(&self.flow.stage)
    }

    /// The effect name of another stage of this flow.
    pub fn effect_name_of(&self, stage: &str) -> String {
        format!("{}/{stage}", self.flow.flow_id)
    }

    /// Cancelled when the attempt must stop; [`StageContext::stop_cause`] has the reason.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.stop.token
    }

    /// Why the attempt was ordered to stop, if it was.
    pub fn stop_cause(&self) -> Option<Stop> {
        self.stop.cause()
    }

    /// Trace context of the request that started the flow.
    pub fn traceparent(&self) -> &str {
        &self.flow.traceparent
    }

    /// Time and randomness.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Hands what the attempt found out to [`crate::Projection::derive`], which records it with the attempt's end. What
    /// is found again replaces it.
    pub fn found<T: Send + Sync + 'static>(&self, found: T) {
        *foundry_core::lock(&self.found) = Some(Arc::new(found));
    }

    /// Reports the attempt's progress. Persisted and projected at most once a second; the newest text is
    /// recorded with the attempt's end in any case.
    pub async fn progress(&self, text: impl Into<String>) {
        self.progress.say(&self.stored, text.into()).await;
    }
}

fn read<T: DeserializeOwned>(
    value: &serde_json::Value,
    reason: &'static str,
    kind: &str,
) -> Result<T, Error> {
    T::deserialize(value).map_err(|e| Error::precondition(reason, kind, e.to_string()))
}
