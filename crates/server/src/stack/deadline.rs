//! The deadline of a unary call: the caller's `grpc-timeout`, capped by ours.

use std::future::Future;
use std::time::Duration;

use foundry_core::{Code, Error};
use http::HeaderMap;

const NAME: &str = "grpc-timeout";

/// How long a call with these headers may take.
///
/// # Errors
/// `INVALID_ARGUMENT` for a `grpc-timeout` that is not one.
pub(crate) fn limit(headers: &HeaderMap, cap: Duration) -> Result<Duration, Error> {
    let mut values = headers.get_all(NAME).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(cap),
        (Some(_), None) => asked(headers).map(|asked| asked.min(cap)).ok_or_else(malformed),
        (Some(_), Some(_)) => Err(malformed()),
    }
}

/// The deadline that the caller requested, if any.
pub(crate) fn asked(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(NAME)?.to_str().ok()?)
}

fn malformed() -> Error {
    Error::invalid_field(NAME, "must occur once, with at most eight digits and one of H, M, S, m, u, n")
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
            limit(&headers, cap).unwrap()
        };
        assert_eq!(with("250m"), Duration::from_millis(250));
        assert_eq!(with("1H"), cap);
        for bad in ["", "m", "123456789m", "-1m", "1x", "é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(limit(&HeaderMap::new(), cap).unwrap(), cap);
    }

    #[test]
    fn a_deadline_that_cannot_be_read_is_refused() {
        let with = |texts: &[&'static str]| {
            let values = texts.iter().map(|text| http::HeaderValue::from_static(text));
            let headers = values.map(|value| (http::HeaderName::from_static(NAME), value)).collect();
            limit(&headers, Duration::from_secs(15))
        };
        for bad in [&["soon"][..], &[""], &["1"], &["-1S"], &["123456789m"], &["1S", "1S"]] {
            let error = with(bad).unwrap_err();
            assert_eq!((error.code(), error.reason()), (Code::InvalidArgument, "INVALID_FIELD"), "{bad:?}");
        }
    }
}
