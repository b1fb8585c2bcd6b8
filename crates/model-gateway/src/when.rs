//! When a used-up quota is available again, in the many formats that providers use.

use std::time::Duration;

use foundry_core::Timestamp;
use http::HeaderMap;
use serde_json::Value;

/// No quota lasts longer than a month.
const LONGEST: Duration = Duration::from_secs(32 * 24 * 3600);

/// The time at which the provider's quota resets; `None` where the provider does not state it.
pub(crate) fn resumes(headers: &HeaderMap, error: &Value, now: Timestamp) -> Option<Timestamp> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    let after = |d: Duration| now.plus(d);
    if per_day(error) {
        // The accompanying delay is that of the next attempt, not that of the quota.
        return None;
    }
    let stated = text("retry-after-ms")
        .and_then(|v| v.parse::<f64>().ok())
        .and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok())
        .map(after)
        .or_else(|| text("retry-after").and_then(|v| seconds_or_date(v, now)))
        .or_else(|| retry_info(error).map(after))
        .or_else(|| error["resets_at"].as_i64().and_then(epoch))
        .or_else(|| error["resets_in_seconds"].as_u64().map(|s| after(Duration::from_secs(s))))
        .or_else(|| text("anthropic-ratelimit-unified-reset").and_then(|v| v.parse().ok()).and_then(epoch));
    let at = stated.or_else(|| resets(headers, now));
    // A larger value is in another unit, or nonsense: a user must decide.
    at.filter(|at| at.since(now) <= LONGEST)
}

/// Parses seconds, or an HTTP date.
fn seconds_or_date(value: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok().map(|d| now.plus(d));
    }
    let date = httpdate::parse_http_date(value).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::default().plus(date))
}

fn epoch(seconds: i64) -> Option<Timestamp> {
    (seconds > 0).then(|| Timestamp::from_micros(seconds.saturating_mul(1_000_000)))
}

/// The latest reset among the limit headers: of the limits with nothing left, or of all.
fn resets(headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    let mut found: Vec<(bool, Timestamp)> = Vec::new();
    for (name, value) in headers {
        let (name, Ok(value)) = (name.as_str(), value.to_str()) else { continue };
        let (at, left) = if let Some(limit) =
            name.strip_suffix("-reset").filter(|n| n.starts_with("anthropic-ratelimit-"))
        {
            (value.parse().ok().map(|t| Timestamp::from_proto(&t)), format!("{limit}-remaining"))
        } else if let Some(what) = name.strip_prefix("x-ratelimit-reset-") {
            (span(value).map(|d| now.plus(d)), format!("x-ratelimit-remaining-{what}"))
        } else {
            continue;
        };
        let used_up = headers.get(&left).is_some_and(|left| left.as_bytes() == b"0");
        found.extend(at.filter(|at| *at > now).map(|at| (used_up, at)));
    }
    found.into_iter().max().map(|(_, at)| at)
}

/// A span such as `1s`, `6m0s`, `120ms`, `1h2m3.5s`.
fn span(text: &str) -> Option<Duration> {
    let (mut rest, mut all) = (text.trim(), 0.0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let value: f64 = rest[..number].parse().ok()?;
        let unit = rest[number..].chars().take_while(char::is_ascii_alphabetic).count();
        all += value
            * match &rest[number..number + unit] {
                "ms" => 0.001,
                "s" | "" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            };
        rest = &rest[number + unit..];
    }
    Duration::try_from_secs_f64(all).ok()
}

fn details(error: &Value) -> impl Iterator<Item = &Value> {
    error["details"].as_array().into_iter().flatten()
}

/// The delay in Gemini's `RetryInfo`, if the error has one.
fn retry_info(error: &Value) -> Option<Duration> {
    details(error).find_map(|d| span(d["retryDelay"].as_str()?))
}

/// Whether Gemini names a daily quota.
fn per_day(error: &Value) -> bool {
    let violations = details(error).filter_map(|d| d["violations"].as_array()).flatten();
    violations.filter_map(|v| v["quotaId"].as_str()).any(|id| id.contains("PerDay"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use serde_json::json;

    /// 2026-01-01T00:00:00Z, for tests without a clock.
    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    fn after(headers: &[(&'static str, &'static str)], error: &Value) -> Option<u64> {
        let map = headers.iter().map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap())).collect();
        resumes(&map, error, NOW).map(|at| at.since(NOW).as_secs())
    }

    #[test]
    fn understands_every_way_in_which_providers_tell_the_time() {
        let none = json!({});
        assert_eq!(after(&[], &none), None);
        for (headers, expected) in [
            (&[("retry-after", "2")][..], Some(2)),
            (&[("retry-after", "3600")], Some(3600)),
            (&[("retry-after", "Thu, 01 Jan 2026 01:00:00 GMT")], Some(3600)),
            (&[("retry-after", "Wed, 31 Dec 2025 23:00:00 GMT")], Some(0)),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-5")], None),
            (&[("retry-after", "1e300")], None),
            (&[("retry-after-ms", "1500"), ("retry-after", "9")], Some(1)),
            (&[("anthropic-ratelimit-unified-reset", "1767229200")], Some(3600)),
            (
                &[
                    ("anthropic-ratelimit-requests-reset", "2026-01-01T05:00:00Z"),
                    ("anthropic-ratelimit-requests-remaining", "40"),
                    ("anthropic-ratelimit-tokens-reset", "2026-01-01T00:02:00Z"),
                    ("anthropic-ratelimit-tokens-remaining", "0"),
                ],
                Some(120),
            ),
            (&[("x-ratelimit-reset-tokens", "6m0s"), ("x-ratelimit-reset-requests", "120ms")], Some(360)),
        ] {
            assert_eq!(after(headers, &none), expected, "{headers:?}");
        }
        let info = json!({"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}]});
        assert_eq!(after(&[], &info), Some(34));
        let day = json!({"details": [{"violations": [{"quotaId": "RequestsPerDayPerProject"}]}, {"retryDelay": "9s"}]});
        assert_eq!(after(&[], &day), None);
        assert_eq!(after(&[], &json!({"resets_in_seconds": 7200})), Some(7200));
        assert_eq!(after(&[], &json!({"resets_at": 1_767_229_200})), Some(3600));
    }
}
