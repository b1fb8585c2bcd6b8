//! Faults of a model, and each provider's form of reporting them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::Api;
use crate::span;

/// One way to fail. As text, in scripts: `401`, `invalid-key`, `429`, `429 2s`, `500`, `529`,
/// `unknown-model`, `silent`, `cut`, `stall`, `broken`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fault {
    /// 401: the key is not accepted.
    KeyRefused,
    /// The real answer to a wrong key: 400 with the reason `API_KEY_INVALID` from Gemini, 401 from the others.
    KeyInvalid,
    /// 429, with `retry-after` in seconds (Gemini: `RetryInfo` and no header), or without a time, where
    /// OpenAI names `insufficient_quota`.
    Limited {
        /// The time after which to retry; absent when the provider gives none.
        retry_after: Option<Duration>,
    },
    /// Another status of the server, 500 to 599; 529 is Anthropic's "overloaded".
    Failing {
        /// The HTTP status.
        status: u16,
    },
    /// 404: there is no such model.
    UnknownModel,
    /// The request is accepted and no byte comes, not even a status.
    Silent,
    /// The stream starts well and the connection is closed in the middle of the text.
    Cut,
    /// The stream starts well and then stalls with the connection open.
    Stalled,
    /// The stream starts well, then reports an error in its own form, and ends.
    Broken,
}

/// An unsuccessful answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Value,
}

impl Fault {
    /// Whether the answer starts well, so that text comes before the fault.
    pub(crate) fn is_late(self) -> bool {
        matches!(self, Self::Cut | Self::Stalled | Self::Broken)
    }

    /// The answer instead of a success; nothing for faults without one.
    pub(crate) fn refusal(self, api: Api, model: &str) -> Option<Refusal> {
        let (status, message) = match self {
            Self::KeyRefused => (401, "the script refuses this key".to_owned()),
            Self::KeyInvalid => {
                (if api == Api::Gemini { 400 } else { 401 }, "the script knows no such key".to_owned())
            }
            Self::Limited { retry_after: Some(after) } => {
                (429, format!("the script limits the rate. Please try again in {}s.", after.as_secs()))
            }
            Self::Limited { retry_after: None } => {
                (429, "the script says that the quota is used up".to_owned())
            }
            Self::Failing { status } => (status, "the script says that the server failed".to_owned()),
            Self::UnknownModel => (404, format!("the script knows no model `{model}`")),
            Self::Broken => (500, "the script says that the server failed".to_owned()),
            Self::Silent | Self::Cut | Self::Stalled => return None,
        };
        let headers = match (self, api) {
            (Self::Limited { retry_after: Some(after) }, Api::Messages | Api::Chat | Api::Responses) => {
                vec![("retry-after", after.as_secs().to_string())]
            }
            _ => Vec::new(),
        };
        Some(Refusal { status, headers, body: self.body(api, status, &message) })
    }

    fn body(self, api: Api, status: u16, message: &str) -> Value {
        match api {
            Api::Messages => anthropic(self.anthropic_kind(status), message),
            Api::Chat | Api::Responses => {
                let (kind, code) = self.openai_kind();
                openai(kind, code, message)
            }
            Api::Gemini => gemini(status, self.gemini_status(status), message, self.gemini_details()),
        }
    }

    /// Anthropic's `error.type` for this fault.
    pub(crate) fn anthropic_kind(self, status: u16) -> &'static str {
        match status {
            401 => "authentication_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            _ => "api_error",
        }
    }

    /// OpenAI's `error.type` and `error.code`.
    pub(crate) fn openai_kind(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::KeyRefused | Self::KeyInvalid => ("invalid_request_error", Some("invalid_api_key")),
            Self::Limited { retry_after: Some(_) } => ("requests", Some("rate_limit_exceeded")),
            Self::Limited { retry_after: None } => ("insufficient_quota", Some("insufficient_quota")),
            Self::UnknownModel => ("invalid_request_error", Some("model_not_found")),
            _ => ("server_error", None),
        }
    }

    fn gemini_status(self, status: u16) -> &'static str {
        match status {
            400 => "INVALID_ARGUMENT",
            401 => "UNAUTHENTICATED",
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            500 => "INTERNAL",
            _ => "UNAVAILABLE",
        }
    }

    fn gemini_details(self) -> Vec<Value> {
        match self {
            Self::KeyInvalid => vec![json!({
                "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
                "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"},
            })],
            Self::Limited { retry_after } => {
                let per = if retry_after.is_some() { "PerMinute" } else { "PerDay" };
                let mut details = vec![json!({
                    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                    "violations": [{
                        "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
                        "quotaId": format!("GenerateRequests{per}PerProjectPerModel"),
                    }],
                })];
                if let Some(after) = retry_after {
                    let delay = format!("{}s", after.as_secs());
                    details.push(
                        json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}),
                    );
                }
                details
            }
            _ => Vec::new(),
        }
    }
}

/// An error in Anthropic's form.
pub(crate) fn anthropic(kind: &str, message: &str) -> Value {
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": null})
}

/// An error in OpenAI's form.
pub(crate) fn openai(kind: &str, code: Option<&str>, message: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

/// An error in Gemini's form.
pub(crate) fn gemini(status: u16, name: &str, message: &str, details: Vec<Value>) -> Value {
    let mut error = json!({"code": status, "message": message, "status": name});
    if !details.is_empty() {
        error["details"] = Value::Array(details);
    }
    json!({"error": error})
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyRefused => f.write_str("401"),
            Self::KeyInvalid => f.write_str("invalid-key"),
            Self::Limited { retry_after: Some(after) } => write!(f, "429 {}", span::write(*after)),
            Self::Limited { retry_after: None } => f.write_str("429"),
            Self::Failing { status } => write!(f, "{status}"),
            Self::UnknownModel => f.write_str("unknown-model"),
            Self::Silent => f.write_str("silent"),
            Self::Cut => f.write_str("cut"),
            Self::Stalled => f.write_str("stall"),
            Self::Broken => f.write_str("broken"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = match text.trim() {
            "401" => Self::KeyRefused,
            "invalid-key" => Self::KeyInvalid,
            "404" | "unknown-model" => Self::UnknownModel,
            "429" => Self::Limited { retry_after: None },
            "silent" => Self::Silent,
            "cut" => Self::Cut,
            "stall" => Self::Stalled,
            "broken" => Self::Broken,
            other => return other_fault(other).ok_or_else(|| format!("`{other}` is no known fault")),
        };
        Ok(fault)
    }
}

fn other_fault(text: &str) -> Option<Fault> {
    if let Some(after) = text.strip_prefix("429 ") {
        return Some(Fault::Limited { retry_after: Some(span::read(after.trim())?) });
    }
    let status: u16 = text.parse().ok()?;
    (500..600).contains(&status).then_some(Fault::Failing { status })
}

impl TryFrom<String> for Fault {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Fault = Fault::Limited { retry_after: Some(Duration::from_secs(3600)) };

    #[test]
    fn spells_what_it_reads() {
        for text in [
            "401",
            "invalid-key",
            "429",
            "429 2s",
            "429 1h",
            "500",
            "529",
            "unknown-model",
            "silent",
            "cut",
            "stall",
            "broken",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        for text in ["", "200", "429 soon", "600", "loud"] {
            text.parse::<Fault>().unwrap_err();
        }
    }

    #[test]
    fn a_limit_names_its_time_as_each_provider_does() {
        for api in [Api::Messages, Api::Chat, Api::Responses] {
            let refusal = HOUR.refusal(api, "m").unwrap();
            assert_eq!((refusal.status, refusal.headers), (429, vec![("retry-after", "3600".to_owned())]));
        }
        let gemini = HOUR.refusal(Api::Gemini, "m").unwrap();
        assert!(gemini.headers.is_empty());
        assert_eq!(gemini.body["error"]["status"], "RESOURCE_EXHAUSTED");
        assert_eq!(gemini.body["error"]["details"][1]["retryDelay"], "3600s");
    }

    #[test]
    fn a_limit_without_a_time_names_none() {
        let limit = Fault::Limited { retry_after: None };
        for api in [Api::Messages, Api::Chat, Api::Responses, Api::Gemini] {
            let refusal = limit.refusal(api, "m").unwrap();
            assert_eq!((refusal.status, refusal.headers.len()), (429, 0));
            assert!(!refusal.body.to_string().contains("RetryInfo"));
        }
    }

    #[test]
    fn errors_have_the_form_of_their_provider() {
        let refused = |api| Fault::KeyRefused.refusal(api, "m").unwrap().body;
        assert_eq!(refused(Api::Messages)["error"]["type"], "authentication_error");
        assert_eq!(refused(Api::Messages)["type"], "error");
        assert_eq!(refused(Api::Chat)["error"]["code"], "invalid_api_key");
        assert_eq!(refused(Api::Gemini)["error"]["status"], "UNAUTHENTICATED");
        let unknown = |api| Fault::UnknownModel.refusal(api, "m-1").unwrap();
        assert_eq!(unknown(Api::Messages).body["error"]["type"], "not_found_error");
        assert_eq!(unknown(Api::Responses).body["error"]["code"], "model_not_found");
        assert_eq!(unknown(Api::Gemini).body["error"]["code"], 404);
        let overloaded = Fault::Failing { status: 529 }.refusal(Api::Messages, "m").unwrap();
        assert_eq!((overloaded.status, &overloaded.body["error"]["type"]), (529, &json!("overloaded_error")));
    }
}
