//! Answers of other services.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The stable reason of another service's refusal; one for its code when it has none.
pub fn reason_of(status: &Status) -> String {
    let said = status.get_details_error_info().map(|info| info.reason);
    said.filter(|reason| !reason.is_empty()).unwrap_or_else(|| plain_reason(status.code()).to_owned())
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
