//! Why an agent cannot be offered or started.

use foundry_core::{Code, Error};

/// A typed failure; retrying does not help, since only the configuration or the profile can change it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct AgentError {
    /// Stable name, `UPPER_SNAKE_CASE`.
    pub reason: &'static str,
    /// The faulty setting, as a path below the configuration's root, for `AGENT_ENTRY_INVALID`.
    pub field: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
}

impl AgentError {
    /// A failure that concerns no single setting.
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, field: None, message: message.into() }
    }

    /// A faulty setting of an operator's entry.
    pub(crate) fn invalid(field: String, what: &str) -> Self {
        let message = format!("{field}: {what}");
        Self { field: Some(field), ..Self::new("AGENT_ENTRY_INVALID", message) }
    }
}

impl From<AgentError> for Error {
    fn from(e: AgentError) -> Self {
        Self::new(Code::FailedPrecondition, e.reason, e.message)
    }
}
