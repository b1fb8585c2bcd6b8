//! The progress that a running attempt reports, persisted at a bounded rate.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::Timestamp;
use foundry_store::WriteSet;

use crate::binding::Binding;
use crate::context::Says;
use crate::inner::Inner;
use crate::row::FLOWS;
use crate::status::{FlowStatus, Transition};

/// At most one persisted progress per flow and second.
const PACE: Duration = Duration::from_secs(1);

/// The progress of one attempt.
pub(crate) struct Progress {
    inner: Arc<Inner>,
    bound: Arc<Binding>,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    /// The newest text and when it came, persisted or not.
    newest: Option<(String, Timestamp)>,
    /// When a text was last persisted.
    persisted: Option<Timestamp>,
}

impl Progress {
    pub(crate) fn new(inner: Arc<Inner>, bound: Arc<Binding>) -> Self {
        Self { inner, bound, said: Mutex::default() }
    }

    /// The newest text, for the attempt's final record.
    pub(crate) fn newest(&self) -> Option<(String, Timestamp)> {
        self.lock().newest.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Said> {
        foundry_core::lock(&self.said)
    }
}

#[async_trait]
impl Says for Progress {
    async fn say(&self, flow: &FlowStatus, text: String) {
        let now = self.inner.now();
        {
            let mut said = self.lock();
            said.newest = Some((text.clone(), now));
            if said.persisted.is_some_and(|at| now < at.plus(PACE)) {
                return;
            }
            said.persisted = Some(now);
        }
        let mut flow = flow.clone();
        flow.last_progress_time = now;
        flow.last_progress = text;
        flow.transition = Some(Transition::Progressed);
        let mut ws = WriteSet::new();
        ws.update(
            &FLOWS,
            &[(&flow.flow_id).into()],
            &[("last_progress", (&flow.last_progress).into()), ("last_progress_time", now.into())],
            &[("epoch", flow.epoch.into())],
        );
        ws.merge(self.bound.project(&flow));
        if let Err(e) = self.inner.commit(ws).await {
            // The end of the attempt records the text, or detects that the lease is lost.
            tracing::debug!(flow = %flow.flow_id, error = %e, "progress was not recorded");
        }
    }
}
