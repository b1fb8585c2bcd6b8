//! Why a call to the runtime failed.

use std::time::Duration;

use foundry_sandbox::acp::RpcError;
use foundry_sandbox::{Class, ProviderError};

/// Why a call to the runtime failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection, or it broke: whether the call had an effect is unknown.
    #[error("the runtime cannot be reached: {0}")]
    Unreachable(String),
    /// The other side does not have the key of this runtime; nothing was sent to it.
    #[error("the peer is not this sandbox's runtime: {0}")]
    Stranger(&'static str),
    /// No answer in time; the call may still take effect.
    #[error("the runtime did not respond within {0:?}")]
    TimedOut(Duration),
    /// The runtime refused: status, its error type, its words.
    #[error("the runtime returned {status}: {detail}")]
    Refused {
        /// The HTTP status of the response.
        status: u16,
        /// Its error type, e.g. `agent_ended`.
        kind: String,
        /// The runtime's error message.
        detail: String,
    },
    /// The agent answered with an error.
    #[error(transparent)]
    Agent(#[from] RpcError),
    /// The answer could not be parsed.
    #[error("invalid response from the runtime: {0}")]
    Malformed(String),
}

impl ClientError {
    /// Whether the runtime refused with this error type.
    pub fn is_refused(&self, kind: &str) -> bool {
        matches!(self, Self::Refused { kind: found, .. } if found == kind)
    }
}

impl From<ClientError> for ProviderError {
    fn from(e: ClientError) -> Self {
        let (class, reason, retryable) = match &e {
            ClientError::Unreachable(_) => (Class::Provider, "RUNTIME_UNREACHABLE", true),
            ClientError::Stranger(_) => (Class::Provider, "RUNTIME_STRANGER", true),
            ClientError::TimedOut(_) => (Class::Timeout, "RUNTIME_TIMEOUT", true),
            ClientError::Refused { kind, .. } if kind == "start_failed" => {
                (Class::Image, "AGENT_START_FAILED", false)
            }
            ClientError::Refused { kind, .. } if kind == "agent_ended" => {
                (Class::Provider, "AGENT_EXITED", true)
            }
            ClientError::Refused { status, .. } => (Class::Provider, "RUNTIME_REFUSED", *status >= 500),
            ClientError::Agent(_) => (Class::Provider, "AGENT_ERROR", false),
            ClientError::Malformed(_) => (Class::Provider, "RUNTIME_MALFORMED", false),
        };
        let error = Self::new(class, reason, e.to_string());
        if retryable { error.retryable() } else { error }.caused_by(e)
    }
}
