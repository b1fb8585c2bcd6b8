//! The result of a stage.

use std::time::Duration;

use foundry_core::{Code, Error, Timestamp};
use foundry_store::WriteSet;
use serde::Serialize;

/// How an attempt of a stage ended. Writes commit together with the flow's own transition, or not at all.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The stage is complete; the next one starts at once (or the flow is done).
    Done {
        /// What the stage records.
        write: WriteSet,
        /// New state of the flow; `None` keeps the present one.
        state: Option<serde_json::Value>,
    },
    /// The stage is complete and the flow continues at another stage, forward or back.
    Goto {
        /// The stage to continue with.
        stage: &'static str,
        /// What the stage records.
        write: WriteSet,
        /// New state of the flow; `None` keeps the present one.
        state: Option<serde_json::Value>,
    },
    /// The attempt failed and may succeed when repeated within the stage's budget.
    Retry {
        /// The kind of failure, as the service names it; empty when the stage gives none.
        class: &'static str,
        /// Stable reason, `UPPER_SNAKE_CASE`.
        reason: String,
        /// What went wrong, as a text for users.
        message: String,
        /// At least this delay instead of the stage's own backoff.
        after: Option<Duration>,
    },
    /// The flow cannot continue.
    Fail {
        /// The kind of failure, as the service names it; empty when the stage gives none.
        class: &'static str,
        /// Stable reason, `UPPER_SNAKE_CASE`.
        reason: String,
        /// What went wrong and what can be done, as a text for users.
        message: String,
        /// What the stage records about it.
        write: WriteSet,
    },
    /// The stage runs again when `key` is signalled, or at the deadline.
    Wait {
        /// What is awaited; see [`crate::signal`].
        key: String,
        /// When to run again without a signal, by the clock of [`StageContext::env`](crate::StageContext::env);
        /// `None` waits for ever.
        deadline: Option<Timestamp>,
        /// Stable reason, `UPPER_SNAKE_CASE`.
        reason: String,
        /// What is awaited and why, as a text for users.
        message: String,
        /// What the stage records.
        write: WriteSet,
        /// New state of the flow; `None` keeps the present one.
        state: Option<serde_json::Value>,
    },
}

impl Outcome {
    /// Complete, with nothing to record.
    pub fn done() -> Self {
        Self::Done { write: WriteSet::default(), state: None }
    }

    /// Complete, continuing at `stage`.
    pub fn goto(stage: &'static str) -> Self {
        Self::Goto { stage, write: WriteSet::default(), state: None }
    }

    /// Failed, worth repeating.
    pub fn retry(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Retry { class: "", reason: reason.into(), message: message.into(), after: None }
    }

    /// Failed for good.
    pub fn fail(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Fail { class: "", reason: reason.into(), message: message.into(), write: WriteSet::default() }
    }

    /// Waits for a signal without a deadline, for the reason `WAITING`.
    pub fn wait(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Wait {
            key: key.into(),
            deadline: None,
            reason: "WAITING".to_owned(),
            message: message.into(),
            write: WriteSet::default(),
            state: None,
        }
    }

    /// Sets what the stage records; a retried attempt records nothing.
    #[must_use]
    pub fn recording(mut self, ws: WriteSet) -> Self {
        match &mut self {
            Self::Done { write, .. }
            | Self::Goto { write, .. }
            | Self::Fail { write, .. }
            | Self::Wait { write, .. } => *write = ws,
            Self::Retry { .. } => {}
        }
        self
    }

    /// Sets the flow's state for the following stages. State that cannot be written as JSON fails the flow.
    #[must_use]
    pub fn with_state<T: Serialize>(mut self, new: &T) -> Self {
        match serde_json::to_value(new) {
            Ok(value) => {
                if let Self::Done { state, .. } | Self::Goto { state, .. } | Self::Wait { state, .. } =
                    &mut self
                {
                    *state = Some(value);
                }
                self
            }
            Err(e) => Self::fail("STATE_NOT_WRITABLE", e.to_string()),
        }
    }

    /// Delays the next attempt by at least this much; for retries.
    #[must_use]
    pub fn no_sooner_than(mut self, delay: Duration) -> Self {
        if let Self::Retry { after, .. } = &mut self {
            *after = Some(delay);
        }
        self
    }

    /// Sets the kind of failure; for retries and failures.
    #[must_use]
    pub fn of_class(mut self, kind: &'static str) -> Self {
        if let Self::Retry { class, .. } | Self::Fail { class, .. } = &mut self {
            *class = kind;
        }
        self
    }

    /// Sets the reason of a wait.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        if let Self::Wait { reason, .. } = &mut self {
            *reason = why.into();
        }
        self
    }

    /// Bounds a wait.
    #[must_use]
    pub fn until(mut self, at: Timestamp) -> Self {
        if let Self::Wait { deadline, .. } = &mut self {
            *deadline = Some(at);
        }
        self
    }
}

/// Whether an error is worth another attempt: the other side may recover by itself.
fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Cancelled
            | Code::Internal
            | Code::Unknown
    )
}

impl From<Error> for Outcome {
    /// Transient codes are retried, all others are terminal.
    fn from(e: Error) -> Self {
        if is_transient(e.code()) {
            Self::retry(e.reason(), e.message())
        } else {
            Self::fail(e.reason(), e.message())
        }
    }
}
