//! Why a tool is not available.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Code, Error};

/// Who has to act on a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The host has no room.
    Capacity,
    /// What was to be installed is missing, broken or not the pinned one.
    Image,
    /// The operator's settings or the machine do not allow it.
    Configuration,
    /// The host failed.
    Host,
    /// It took longer than its limit.
    Timeout,
}

/// A typed failure of the tool cache.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct ToolError {
    /// Who has to act on it.
    pub cause: Cause,
    /// Stable name, `UPPER_SNAKE_CASE`.
    pub reason: &'static str,
    /// What failed, and what can be done about it.
    pub message: String,
    /// Whether the same call may succeed later without a change by the user.
    pub retryable: bool,
    #[source]
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl ToolError {
    pub(crate) fn new(cause: Cause, reason: &'static str, message: impl Into<String>) -> Self {
        Self { cause, reason, message: message.into(), retryable: false, source: None }
    }

    #[must_use]
    pub(crate) fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// A failed file operation.
    pub(crate) fn io(what: impl std::fmt::Display, e: io::Error) -> Self {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        let mut error = if matches!(e.kind(), StorageFull | QuotaExceeded) {
            Self::disk_full(&what.to_string())
        } else {
            Self::new(Cause::Host, "TOOL_CACHE_UNUSABLE", format!("{what}: {e}")).retryable()
        };
        error.source = Some(Arc::new(e));
        error
    }

    pub(crate) fn disk_full(what: &str) -> Self {
        Self::new(Cause::Capacity, "DISK_FULL", format!("{what}: the disk is full")).retryable()
    }
}

impl From<ToolError> for Error {
    fn from(e: ToolError) -> Self {
        let code = match e.cause {
            Cause::Capacity => Code::ResourceExhausted,
            Cause::Image | Cause::Configuration => Code::FailedPrecondition,
            Cause::Host => Code::Unavailable,
            Cause::Timeout => Code::DeadlineExceeded,
        };
        let error = Self::new(code, e.reason, e.message.clone());
        let error = if e.retryable { error.retry_after(Duration::from_secs(1)) } else { error };
        error.caused_by(e)
    }
}
