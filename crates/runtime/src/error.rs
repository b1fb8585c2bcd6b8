//! Failures of requests.

use std::fmt;

use http::StatusCode;

/// Kind of failure; `name` is its `type` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unauthenticated,
    NotFound,
    Invalid,
    TooLarge,
    AgentEnded,
    Busy,
    LogUnwritable,
    StartFailed,
    Refused,
    Truncated,
    Io,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::NotFound => "not_found",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::AgentEnded => "agent_ended",
            Self::Busy => "busy",
            Self::LogUnwritable => "log_unwritable",
            Self::StartFailed => "start_failed",
            Self::Refused => "refused",
            Self::Truncated => "truncated",
            Self::Io => "io",
        }
    }

    pub fn status(self) -> StatusCode {
        match self {
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::AgentEnded | Self::Truncated => StatusCode::CONFLICT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::LogUnwritable => StatusCode::INSUFFICIENT_STORAGE,
            Self::StartFailed => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Refused => StatusCode::FORBIDDEN,
            Self::Io => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A failure as it is sent to the caller.
#[derive(Debug)]
pub(crate) struct Failure {
    pub kind: Kind,
    pub detail: String,
}

impl Failure {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, detail)
    }

    pub fn io(what: impl fmt::Display, e: impl fmt::Display) -> Self {
        Self::new(Kind::Io, format!("{what}: {e}"))
    }
}
