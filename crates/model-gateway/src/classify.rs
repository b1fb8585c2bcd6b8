//! What a provider's refusal means.

use std::borrow::Cow;
use std::time::Duration;

use foundry_core::Timestamp;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::access::Access;
use crate::condition::{ConditionKind, Unreached};
use crate::when;

/// Up to this length, agents wait themselves.
pub(crate) const SHORT: Duration = Duration::from_secs(60);
/// How much of a provider's text is shown.
const SHOWN: usize = 400;

/// The condition that an unsuccessful answer means for the session; `None` where it concerns only the request.
pub(crate) fn refusal(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Option<(ConditionKind, String)> {
    let error = error_of(body);
    let words = format!("the provider responded {}{}", status.as_u16(), said(&error, body));
    let kind = match status.as_u16() {
        300..=399 => ConditionKind::Unreachable(Unreached::Path),
        402 => UNPAID,
        400 | 403 | 429 if credit_is_used_up(&error) => UNPAID,
        429 => quota(headers, &error, now),
        401 | 403 => ConditionKind::KeyRefused,
        400 if holds_word(&error, "API_KEY_INVALID") => ConditionKind::KeyRefused,
        400 | 404 if names_a_model(status, &error, body) => ConditionKind::Unknown,
        404 | 405 => ConditionKind::Unreachable(Unreached::Path),
        500.. => ConditionKind::Failing,
        _ => return None,
    };
    Some((kind, words))
}

/// What a failure within a stream means.
pub(crate) fn failure(error: &Value, now: Timestamp) -> (ConditionKind, String) {
    let code = ["type", "code", "status"]
        .iter()
        .filter_map(|name| error[*name].as_str())
        .collect::<Vec<_>>()
        .join(" ");
    let words = format!("the provider aborted its response{}", said(error, b""));
    let of_quota =
        ["rate_limit", "quota", "RESOURCE_EXHAUSTED", "usage_limit"].iter().any(|part| code.contains(part));
    let kind = if credit_is_used_up(error) {
        UNPAID
    } else if of_quota || error["code"].as_u64() == Some(429) {
        quota(&HeaderMap::new(), error, now)
    } else {
        ConditionKind::Failing
    };
    (kind, words)
}

fn quota(headers: &HeaderMap, error: &Value, now: Timestamp) -> ConditionKind {
    let resume_at = when::resumes(headers, error, now);
    let notice = resume_at.is_some_and(|at| at.since(now) <= SHORT);
    ConditionKind::Quota { resume_at, notice, ends_turn: resume_at.is_some() && !notice }
}

/// Waiting does not help where payment is due.
const UNPAID: ConditionKind = ConditionKind::Quota { resume_at: None, notice: false, ends_turn: true };

/// The `error` of an answer, in any of its forms.
fn error_of(body: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    // Gemini's streams answer with an array.
    let value = if let Value::Array(mut parts) = value { parts.pop().unwrap_or_default() } else { value };
    if value["error"].is_null() { value } else { value["error"].clone() }
}

fn credit_is_used_up(error: &Value) -> bool {
    [
        "insufficient_quota",
        "credit balance is too low",
        "billing_error",
        "Insufficient Balance",
        "Insufficient credits",
    ]
    .iter()
    .any(|part| holds_word(error, part))
}

fn holds_word(error: &Value, part: &str) -> bool {
    error.to_string().contains(part)
}

/// Whether the model is missing, and not the path. Servers differ; most name the model.
fn names_a_model(status: StatusCode, error: &Value, body: &[u8]) -> bool {
    if ["type", "code"].iter().any(|name| error[*name] == "model_not_found") {
        return true;
    }
    let text = match error["message"].as_str().or(error.as_str()) {
        Some(text) => text.to_lowercase(),
        None if error.is_object() => error.to_string().to_lowercase(),
        // An HTML page of a web server.
        None => String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).to_lowercase(),
    };
    match status {
        StatusCode::NOT_FOUND => text.contains("model") && !text.contains("<html"),
        _ => ["not a valid model", "invalid model name", "unknown model", "unsupported model"]
            .iter()
            .any(|part| text.contains(part)),
    }
}

/// The provider's own message, bounded and in one line.
fn said(error: &Value, body: &[u8]) -> String {
    let text = match error["message"].as_str().or(error["detail"].as_str()).or(error.as_str()) {
        Some(text) => text.to_owned(),
        None => String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned(),
    };
    let mut line: String =
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).collect();
    if line.chars().count() > SHOWN {
        line = line.chars().take(SHOWN).chain(['…']).collect();
    }
    if line.is_empty() { line } else { format!(": {line}") }
}

/// Removes every secret from a provider's text. Very short ones stay: they would match everywhere.
pub(crate) fn scrubbed(access: &Access, text: &str) -> Option<String> {
    without(access.secrets(), text)
}

/// The text without these secrets; `None` when it contains none of them.
pub(crate) fn without<'a>(secrets: impl Iterator<Item = Cow<'a, str>>, text: &str) -> Option<String> {
    let mut clean: Option<String> = None;
    for secret in secrets.filter(|s| s.len() >= 6) {
        let current = clean.as_deref().unwrap_or(text);
        if current.contains(&*secret) {
            clean = Some(current.replace(&*secret, "***"));
        }
    }
    clean
}

/// Why no answer came at all.
pub(crate) fn no_answer(error: &reqwest::Error, place: &str) -> (ConditionKind, String) {
    let mut causes: Vec<String> = Vec::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    let (mut tls, mut other_protocol) = (false, false);
    while let Some(cause) = next {
        tls |= is_of_tls(cause);
        other_protocol |= cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
        causes.push(cause.to_string());
        next = cause.source();
    }
    if other_protocol {
        let words = format!("{place} responded with something that is not HTTP");
        return (ConditionKind::Unreachable(Unreached::Path), words);
    }
    if !error.is_connect() {
        return (ConditionKind::Failing, format!("{place} closed the connection before responding"));
    }
    let last = causes.last().cloned().unwrap_or_default();
    if tls {
        (
            ConditionKind::Unreachable(Unreached::Tls),
            format!("the TLS connection to {place} is not trusted: {last}"),
        )
    } else if causes.iter().any(|c| c.contains("dns error")) {
        (ConditionKind::Unreachable(Unreached::Name), format!("the name {place} cannot be resolved: {last}"))
    } else {
        (ConditionKind::Unreachable(Unreached::Host), format!("{place} cannot be reached: {last}"))
    }
}

/// I/O errors hide what they wrap from the chain of causes.
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|inner| is_of_tls(inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    fn kind(status: u16, body: &str) -> Option<ConditionKind> {
        refusal(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes(), NOW)
            .map(|(kind, _)| kind)
    }

    #[test]
    fn tells_refusals_apart_as_the_providers_word_them() {
        let unpaid = Some(UNPAID);
        let path = Some(ConditionKind::Unreachable(Unreached::Path));
        for (status, body, expected) in [
            (
                401,
                r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
                Some(ConditionKind::KeyRefused),
            ),
            (403, "<html>Forbidden</html>", Some(ConditionKind::KeyRefused)),
            (
                400,
                r#"{"error":{"code":400,"details":[{"reason":"API_KEY_INVALID"}]}}"#,
                Some(ConditionKind::KeyRefused),
            ),
            (
                404,
                r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-x"}}"#,
                Some(ConditionKind::Unknown),
            ),
            (
                404,
                r#"{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}"#,
                Some(ConditionKind::Unknown),
            ),
            (404, r#"{"error":"model 'x' not found, try pulling it first"}"#, Some(ConditionKind::Unknown)),
            (
                404,
                r#"[{"error":{"code":404,"message":"models/x is not found for API version v1beta"}}]"#,
                Some(ConditionKind::Unknown),
            ),
            (
                400,
                r#"{"error":{"message":"x is not a valid model ID","code":400}}"#,
                Some(ConditionKind::Unknown),
            ),
            (404, "404 page not found", path.clone()),
            (404, "<html>no such model page</html>", path.clone()),
            (302, "", path),
            (
                429,
                r#"{"error":{"code":"insufficient_quota","message":"You exceeded your current quota"}}"#,
                unpaid.clone(),
            ),
            (402, r#"{"error":{"message":"Insufficient credits"}}"#, unpaid.clone()),
            (400, r#"{"error":{"message":"Your credit balance is too low to access the API"}}"#, unpaid),
            (500, "", Some(ConditionKind::Failing)),
            (
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                Some(ConditionKind::Failing),
            ),
            (400, r#"{"error":{"message":"max_tokens is too large for this model"}}"#, None),
            (413, "", None),
            (422, "", None),
        ] {
            assert_eq!(kind(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn takes_a_wait_up_to_a_minute_for_a_notice() {
        for (seconds, notice) in [("2", true), ("60", true), ("61", false), ("3600", false)] {
            let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, seconds.parse().unwrap())]);
            let Some((ConditionKind::Quota { resume_at: Some(at), notice: got, ends_turn }, _)) =
                refusal(StatusCode::TOO_MANY_REQUESTS, &headers, b"", NOW)
            else {
                panic!("no time in {seconds}");
            };
            assert_eq!(ends_turn, !notice);
            assert_eq!((at.since(NOW).as_secs().to_string().as_str(), got), (seconds, notice));
        }
    }

    #[test]
    fn understands_failures_within_a_stream() {
        let overloaded = json!({"type": "overloaded_error", "message": "Overloaded"});
        assert_eq!(failure(&overloaded, NOW).0, ConditionKind::Failing);
        let limited = json!({"code": "rate_limit_exceeded", "message": "slow down"});
        assert!(matches!(failure(&limited, NOW).0, ConditionKind::Quota { .. }));
    }

    #[test]
    fn shows_a_providers_words_in_one_bounded_line() {
        let body = json!({"error": {"message": format!("a\n\u{7}b {}", "x".repeat(1000))}}).to_string();
        let (_, words) = refusal(StatusCode::UNAUTHORIZED, &HeaderMap::new(), body.as_bytes(), NOW).unwrap();
        assert!(
            words.starts_with("the provider responded 401: a b x") && words.chars().count() < 450,
            "{words}"
        );
    }
}
