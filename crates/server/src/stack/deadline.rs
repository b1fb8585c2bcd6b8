//! The deadline of a unary call: the caller's `grpc-timeout`, capped by ours.

use std::future::Future;
use std::time::Duration;

use foundry_core::{Code, Error};
use http::HeaderMap;

/// How long a call with these headers may take.
pub(crate) fn limit(headers: &HeaderMap, cap: Duration) -> Duration {
    asked(headers).map_or(cap, |asked| asked.min(cap))
}

/// The deadline that the caller requested, if any.
pub(crate) fn asked(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get("grpc-timeout")?.to_str().ok()?)
}

/// Runs a call; dropping it at the deadline is safe because transactions belong to the service, not to the call.
pub(crate) async fn within<F: Future>(limit: Duration, call: F) -> Result<F::Output, Error> {
    tokio::time::timeout(limit, call).await.map_err(|_| exceeded(limit))
}

/// The error at the deadline, whichever side noticed it first.
pub(crate) fn exceeded(limit: Duration) -> Error {
    Error::new(
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        format!("the call took longer than {} ms", limit.as_millis()),
    )
    .with("limit_ms", limit.as_millis().to_string())
    .next_action("retry with the same request_id; a duplicate returns the first response")
}

/// `TimeoutValue TimeoutUnit` of the gRPC protocol: at most eight digits and one of `HMSmun`.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3_600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_may_shorten_the_deadline_but_not_lengthen_it() {
        let cap = Duration::from_secs(15);
        let with = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", http::HeaderValue::from_static(text));
            limit(&headers, cap)
        };
        assert_eq!(with("250m"), Duration::from_millis(250));
        assert_eq!(with("1H"), cap);
        for bad in ["", "m", "123456789m", "-1m", "1x", "é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(limit(&HeaderMap::new(), cap), cap);
    }
}
