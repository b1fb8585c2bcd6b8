//! Why a stage failed, in terms that a user can act on.

use std::time::Duration;

use foundry_core::Code;

/// Who has to act on a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The host has no room: disk, processes, ports.
    Capacity,
    /// A tool or image is missing, broken or not the pinned one.
    Image,
    /// The operator's settings do not allow it.
    Configuration,
    /// A credential is missing or refused.
    Credentials,
    /// The provider or the runtime itself failed.
    Provider,
    /// It took longer than its limit; it may still have happened.
    Timeout,
    /// The caller asked to stop.
    Cancelled,
}

/// A typed failure of a provider call.
#[derive(Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct ProviderError {
    /// Who has to act on it.
    pub class: Class,
    /// Stable name, `UPPER_SNAKE_CASE`.
    pub reason: &'static str,
    /// What failed, and what can be done about it.
    pub message: String,
    /// Whether the same call may succeed later without a change by the user.
    pub retryable: bool,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ProviderError {
    /// A failure that repeats until the user changes something.
    pub fn new(class: Class, reason: &'static str, message: impl Into<String>) -> Self {
        Self { class, reason, message: message.into(), retryable: false, source: None }
    }

    /// Marks the failure as worth a retry.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Keeps the inside cause for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A failed file operation: a full disk is `Capacity`, all else `Provider`.
    pub fn io(what: impl std::fmt::Display, e: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(e.kind(), StorageFull | QuotaExceeded) {
            Self::new(Class::Capacity, "DISK_FULL", format!("{what}: the disk is full"))
                .retryable()
                .caused_by(e)
        } else {
            Self::new(Class::Provider, "SANDBOX_IO", format!("{what}: {e}")).retryable().caused_by(e)
        }
    }

    /// The caller's cancellation.
    pub fn cancelled(what: impl std::fmt::Display) -> Self {
        Self::new(Class::Cancelled, "CANCELLED", format!("{what} was cancelled"))
    }
}

impl From<ProviderError> for foundry_core::Error {
    fn from(e: ProviderError) -> Self {
        let code = match e.class {
            Class::Capacity => Code::ResourceExhausted,
            Class::Image | Class::Configuration | Class::Credentials => Code::FailedPrecondition,
            Class::Provider => Code::Unavailable,
            Class::Timeout => Code::DeadlineExceeded,
            Class::Cancelled => Code::Cancelled,
        };
        let mut error = Self::new(code, e.reason, e.message.clone());
        if e.retryable {
            error = error.retry_after(Duration::from_secs(1));
        }
        error.caused_by(e)
    }
}
