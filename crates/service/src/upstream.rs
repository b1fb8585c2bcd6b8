//! Answers of other services.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The stable reason of another service's refusal; one for its code when it has none.
pub fn reason_of(status: &Status) -> String {
    let said = status.get_details_error_info().map(|info| info.reason);
    said.filter(|reason| !reason.is_empty()).unwrap_or_else(|| plain_reason(status.code()).to_owned())
}

/// How long another service asks to wait before the call is repeated, if it says so.
pub fn retry_after_of(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

fn plain_reason(code: Code) -> &'static str {
    match code {
        Code::Unavailable => "UPSTREAM_UNAVAILABLE",
        Code::DeadlineExceeded => "UPSTREAM_TIMED_OUT",
        Code::NotFound => "NOT_FOUND",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        _ => "UPSTREAM_FAILED",
    }
}
