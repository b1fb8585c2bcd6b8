//! Errors in the format of each provider's API, so that an agent shows their text.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// The API family of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Anthropic,
    OpenAi,
    Gemini,
}

/// The header from which the providers' own SDKs read whether to retry.
pub(crate) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The machine-readable reason.
pub(crate) const REASON: HeaderName = HeaderName::from_static("x-foundry-reason");

/// Whether the agent should retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// No: a retry within the turn cannot succeed.
    Never,
    /// No, but a call after this time would succeed.
    NotBefore(Duration),
    /// Yes, after this time.
    After(Duration),
    /// Left to the agent.
    Free,
}

/// An error answer of the gateway itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) words: String,
    pub(crate) retry: Retry,
}

impl Problem {
    pub(crate) fn body(&self, family: Family) -> Bytes {
        let message = format!("{} ({})", self.words, self.reason);
        let status = self.status.as_u16();
        let value = match family {
            Family::Anthropic => json!({
                "type": "error",
                "error": { "type": anthropic_type(status), "message": message },
            }),
            Family::OpenAi => json!({
                "error": { "message": message, "type": openai_type(status), "param": null, "code": self.reason },
            }),
            Family::Gemini => json!({
                "error": {
                    "code": status,
                    "message": message,
                    "status": gemini_status(status),
                    "details": self.gemini_details(),
                },
            }),
        };
        Bytes::from(value.to_string())
    }

    /// As a JSON-RPC error for MCP clients.
    pub(crate) fn rpc(&self) -> Bytes {
        let message = format!("{} ({})", self.words, self.reason);
        let error = json!({ "code": -32_000, "message": message });
        Bytes::from(json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string())
    }

    /// As an event within a stream that has begun, also in the middle of another event.
    pub(crate) fn event(&self, family: Family) -> Bytes {
        let body = self.body(family);
        let body = String::from_utf8_lossy(&body);
        Bytes::from(match family {
            Family::Anthropic => format!("\n\nevent: error\ndata: {body}\n\n"),
            Family::OpenAi | Family::Gemini => format!("\n\ndata: {body}\n\n"),
        })
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(REASON, HeaderValue::from_static(self.reason));
        let (again, after) = match self.retry {
            Retry::Never => (Some("false"), None),
            Retry::NotBefore(after) => (Some("false"), Some(after)),
            Retry::After(after) => (Some("true"), Some(after)),
            Retry::Free => (None, None),
        };
        if let Some(again) = again {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(again));
        }
        if let Some(after) = after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(after)));
        }
        headers
    }

    fn gemini_details(&self) -> Value {
        let mut details = vec![json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": self.reason,
            "domain": "foundry",
        })];
        if let Retry::NotBefore(after) | Retry::After(after) = self.retry {
            details.push(json!({
                "@type": "type.googleapis.com/google.rpc.RetryInfo",
                "retryDelay": format!("{}s", seconds(after)),
            }));
        }
        Value::Array(details)
    }
}

/// Whole seconds, rounded up: an agent that comes too early is refused again.
pub(crate) fn seconds(d: Duration) -> u64 {
    d.as_secs() + u64::from(d.subsec_nanos() > 0)
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn openai_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "insufficient_quota",
        429 => "rate_limit_exceeded",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn gemini_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        402 | 429 => "RESOURCE_EXHAUSTED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        502 | 503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}
