//! One call that the provider was asked for: what it reports, and what that means for its key.

use std::sync::Arc;

use foundry_core::{Env, Timestamp};

use crate::access::{Access, Usage};
use crate::classify::{SHORT, scrubbed};
use crate::condition::{ConditionKind, ModelCondition};
use crate::gate::{Gate, KeyName};
use crate::reports::Reports;
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

    /// Counts what was seen, if anything.
    pub(crate) fn count(&self, seen: &Seen, complete: bool) {
        let Some(usage) = &seen.usage else { return };
        let model = seen.model.clone().unwrap_or_else(|| self.model.clone());
        let usage = Usage { model, complete, ..usage.clone() };
        self.reports.used(&self.access, usage.priced(&self.access.prices, &self.model));
    }
}
