//! One call that the provider was asked for: what it reports, and what that means for its key.

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

/// What belongs to a call from its admission to its end.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) access: Arc<Access>,
    pub(crate) api: Api,
    pub(crate) family: Family,
    /// The model asked for; empty where the call names none.
    pub(crate) model: String,
    pub(crate) key: KeyName,
    pub(crate) gate: Gate,
    pub(crate) reports: Reports,
    pub(crate) env: Env,
    /// What [`Gate::count`] was when the call came.
    pub(crate) came: u64,
    /// Roughly how many tokens the request is.
    pub(crate) read: u64,
    /// The most tokens that are expected to be written.
    pub(crate) most: u64,
    /// Its share of the limits, until what it used is counted.
    pub(crate) reservation: Option<Arc<Reservation>>,
}

impl Call {
    pub(crate) fn now(&self) -> Timestamp {
        self.env.clock.now()
    }

    /// Tells the session, and holds the key back where its quota is used up for longer than an agent waits. Returns
    /// what was told. Calls that no model works for tell nothing: keys and gateways often lack them.
    pub(crate) fn tell(&self, kind: ConditionKind, words: &str) -> Option<ModelCondition> {
        if !self.api.generates() {
            return None;
        }
        if self.is_of_before() && matches!(kind, ConditionKind::Quota { .. } | ConditionKind::KeyRefused) {
            // It says nothing about the key of now.
            return None;
        }
        match kind {
            ConditionKind::Quota { resume_at: Some(at), .. } if at.since(self.now()) > SHORT => {
                self.gate.hold(self.key, &self.access.owner.provider, at);
            }
            // It answers: the quota is not what stands in the way.
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

    /// Whether the provider got another key, or somebody wanted its quota to be tried again, since the call came.
    pub(crate) fn is_of_before(&self) -> bool {
        self.gate.was_let_go(&self.access.owner.provider, self.came)
    }

    /// Counts what the provider told of a whole answer.
    pub(crate) fn count(&self, seen: &Seen, told: Usage) {
        self.used(seen, Usage { complete: true, ..told });
    }

    /// Counts a call of which the provider did not tell all: what was seen, and an estimate of the rest. So an agent
    /// that hangs up early, or uses a server that reports no usage, is still counted.
    pub(crate) fn count_guess(&self, seen: &Seen, complete: bool) {
        let told = seen.usage.clone();
        let read = if told.is_some() { 0 } else { self.read };
        let mut usage = told.unwrap_or(Usage { input: read, ..Usage::default() });
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
