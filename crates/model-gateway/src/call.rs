//! One call to the provider: its reports, and what they mean for its key.

use std::sync::Arc;

use foundry_core::{Env, Timestamp};

use crate::access::{Access, Usage};
use crate::classify::{SHORT, scrubbed};
use crate::condition::{ConditionKind, ModelCondition};
use crate::gate::{Gate, KeyName};
use crate::reports::Reports;
use crate::reserve::Reservation;
use crate::route::Api;
use crate::shape::Family;
use crate::usage::Seen;

/// The state of a call from its admission to its end.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) access: Arc<Access>,
    pub(crate) api: Api,
    pub(crate) family: Family,
    /// The requested model; empty where the call names none.
    pub(crate) model: String,
    pub(crate) key: KeyName,
    pub(crate) gate: Gate,
    pub(crate) reports: Reports,
    pub(crate) env: Env,
    /// The value of [`Gate::count`] when the call came.
    pub(crate) came: u64,
    /// Rough number of tokens in the request.
    pub(crate) read: u64,
    /// The most tokens that are expected in the answer.
    pub(crate) most: u64,
    /// Its share of the limits, until what it used is counted.
    pub(crate) reservation: Option<Arc<Reservation>>,
}

impl Call {
    pub(crate) fn now(&self) -> Timestamp {
        self.env.clock.now()
    }

    /// Reports a condition to the session, and holds the key back where its quota is used up for longer than an agent
    /// waits. Returns what was reported. Calls without a model report nothing: keys and gateways often lack them.
    pub(crate) fn report(&self, kind: ConditionKind, words: &str) -> Option<ModelCondition> {
        if !self.api.generates() {
            return None;
        }
        if self.is_of_before() && matches!(kind, ConditionKind::Quota { .. } | ConditionKind::KeyRefused) {
            // The answer concerns the previous key.
            return None;
        }
        match kind {
            ConditionKind::Quota { resume_at: Some(at), .. } if at.since(self.now()) > SHORT => {
                self.gate.hold(self.key, &self.access.owner.provider, at);
            }
            // The provider answers, so the quota is not exhausted.
            ConditionKind::Working | ConditionKind::Quota { .. } => {
                self.gate.release(self.key, self.now());
            }
            _ => {}
        }
        let words = scrubbed(&self.access, words).unwrap_or_else(|| words.to_owned());
        let condition = ModelCondition { kind, model: self.model.clone(), words };
        tracing::debug!(owner = ?self.access.owner, model = %self.model, reason = condition.reason(), words = %condition.words, "model call");
        self.reports.condition(&self.access, condition.clone());
        Some(condition)
    }

    /// Whether the provider got another key, or a user asked to try its quota again, since the call came.
    pub(crate) fn is_of_before(&self) -> bool {
        self.gate.was_let_go(&self.access.owner.provider, self.came)
    }

    /// Counts a whole answer with the provider's own numbers.
    pub(crate) fn count(&self, seen: &Seen, reported: Usage) {
        self.used(seen, Usage { complete: true, ..reported });
    }

    /// Counts a call whose numbers the provider did not report in full: what was seen, and an estimate of the rest.
    /// This counts agents that hang up early and servers that report no usage.
    pub(crate) fn count_guess(&self, seen: &Seen, complete: bool) {
        let reported = seen.usage.clone();
        let read = if reported.is_some() { 0 } else { self.read };
        let mut usage = reported.unwrap_or(Usage { input: read, ..Usage::default() });
        let written = seen.words.tokens();
        let estimated = read > 0 || written > usage.output;
        usage.output = usage.output.max(written);
        self.used(seen, Usage { complete, estimated, ..usage });
    }

    fn used(&self, seen: &Seen, usage: Usage) {
        let usage = Usage { model: seen.model.clone().unwrap_or_else(|| self.model.clone()), ..usage };
        let usage = usage.priced(&self.access.prices, &self.model);
        self.reports.used(&self.access, usage, self.reservation.clone());
    }
}
