//! Shows sessions that their calls wait for a share of a limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::access::Access;
use crate::call::Call;
use crate::condition::{ConditionKind, ModelCondition};
use crate::reports::Reports;

/// The number of waiting calls that each session shows.
#[derive(Clone, Default)]
pub(crate) struct Waits(Arc<Mutex<HashMap<String, usize>>>);

/// A waiting call that its session shows; ended on drop, also when the agent disconnects.
pub(crate) struct Wait {
    all: Waits,
    access: Arc<Access>,
    reports: Reports,
}

impl Waits {
    /// Shows that a call waits for its share of the limit of `scope`.
    pub(crate) fn show(&self, call: &Call, scope: &str) -> Wait {
        let wait =
            Wait { all: self.clone(), access: Arc::clone(&call.access), reports: call.reports.clone() };
        *self.lock().entry(wait.session()).or_default() += 1;
        let words = format!(
            "calls in progress may reach the limit of {scope}; this call is sent when one of them finishes"
        );
        wait.report(ConditionKind::LimitWait, &call.model, words);
        wait
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // The map is whole after every change, so a panic leaves it usable.
        foundry_core::lock(&self.0)
    }
}

impl Wait {
    fn session(&self) -> String {
        self.access.owner.session.clone()
    }

    fn report(&self, kind: ConditionKind, model: &str, words: String) {
        // Not reported through the call: it reveals nothing about the provider or its key.
        self.reports.condition(&self.access, ModelCondition { kind, model: model.to_owned(), words });
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        let session = self.session();
        let left = all.get(&session).copied().unwrap_or_default().saturating_sub(1);
        if left > 0 {
            all.insert(session, left);
            return;
        }
        all.remove(&session);
        self.report(ConditionKind::LimitWaitOver, "", String::new());
    }
}
