//! Recorded requests and their outcomes.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;

use crate::api::{self, Api};
use crate::usage::Usage;

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// Number in the order of arrival, from 0.
    pub number: usize,
    /// The HTTP method.
    pub method: Method,
    /// The path, including any prefix of the base URL.
    pub path: String,
    /// The part after `?`, if any.
    pub query: Option<String>,
    /// All headers as they arrived.
    pub headers: HeaderMap,
    /// The body as it came.
    pub bytes: Bytes,
    /// The body as JSON; null if it is none.
    pub body: Arc<Value>,
    /// The API of the request; none for lists of models and unknown paths.
    pub api: Option<Api>,
    /// The key: a bearer token, `x-api-key`, `x-goog-api-key` or `?key=`.
    pub key: Option<String>,
    /// The requested model, from the body or (Gemini) the path.
    pub model: Option<String>,
    /// Whether tools were offered: then it is the agent's work, and not a title or a summary.
    pub has_tools: bool,
    /// When its last byte had arrived.
    pub arrived: Instant,
    /// The HTTP status of the answer; none while there is no answer.
    pub status: Option<u16>,
    /// The usage that the answer reported, or would have reported at its end.
    pub usage: Option<Usage>,
    /// How it ended, or that it is still open.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is being answered.
    Open,
    /// The answer was complete at that time.
    Answered(Instant),
    /// The client closed its side, or reset the stream, before the answer was complete.
    ClientGone(Instant),
    /// The script cut the answer off.
    Cut(Instant),
}

impl RecordedRequest {
    /// Whether any string in the body contains this text.
    pub fn holds(&self, words: &str) -> bool {
        let mut all = String::new();
        api::strings(&self.body, &mut all);
        all.contains(words)
    }

    /// The pictures in the body, decoded, in order, each with its media type.
    pub fn images(&self) -> Vec<(String, Vec<u8>)> {
        let mut images = Vec::new();
        find_images(&self.body, &mut images);
        images
    }

    /// When it ended; none while it is open.
    pub fn ended(&self) -> Option<Instant> {
        match self.outcome {
            Outcome::Open => None,
            Outcome::Answered(at) | Outcome::ClientGone(at) | Outcome::Cut(at) => Some(at),
        }
    }

    /// Whether the client disconnected before the end.
    pub fn client_left(&self) -> bool {
        matches!(self.outcome, Outcome::ClientGone(_))
    }
}

/// Pictures of all four forms: Anthropic's `source`, OpenAI's data URLs, Gemini's `inlineData`.
fn find_images(value: &Value, images: &mut Vec<(String, Vec<u8>)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| find_images(item, images)),
        Value::Object(members) => {
            let inline = [("media_type", "data"), ("mimeType", "data"), ("mime_type", "data")];
            for (kind, data) in inline {
                if let (Some(kind), Some(data)) = (value[kind].as_str(), value[data].as_str()) {
                    push_image(kind, data, images);
                }
            }
            for (name, member) in members {
                match member.as_str().filter(|_| name == "url" || name == "image_url") {
                    Some(url) => {
                        let rest = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
                        if let Some((kind, data)) = rest {
                            push_image(kind, data, images);
                        }
                    }
                    None => find_images(member, images),
                }
            }
        }
        _ => {}
    }
}

fn push_image(kind: &str, data: &str, images: &mut Vec<(String, Vec<u8>)>) {
    if kind.starts_with("image/")
        && let Ok(bytes) = BASE64_STANDARD.decode(data)
    {
        images.push((kind.to_owned(), bytes));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pictures_are_found_in_every_form() {
        for body in [
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}),
            json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]),
            json!({"input": [{"type": "input_image", "image_url": "data:image/png;base64,aGk="}]}),
            json!({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}]}]}),
        ] {
            let mut images = Vec::new();
            find_images(&body, &mut images);
            assert_eq!(images, [("image/png".to_owned(), b"hi".to_vec())], "{body}");
        }
    }
}
