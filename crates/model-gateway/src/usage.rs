//! Parses usage, failures and the end of an answer from the passing stream, for each API.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::Value;

use crate::access::Usage;
use crate::lines::{Lines, Tail, last_value};
use crate::route::Api;

/// What has been parsed of an answer so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The counts, once the provider has sent some.
    pub(crate) usage: Option<Usage>,
    /// The model that answers.
    pub(crate) model: Option<String>,
    /// A failure that the provider reports within a stream.
    pub(crate) failure: Option<Value>,
    /// Whether the stream was marked as complete.
    pub(crate) finished: bool,
    /// The events with none of this: output of the model.
    pub(crate) words: Words,
    /// Whether the current event contains usage, a failure or the end.
    reports: bool,
}

/// Measures the model's output, for a stream that breaks off before it reports its usage.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Words {
    events: u64,
    bytes: u64,
    /// Size of the shortest event: about the size of an event's framing.
    shortest: u64,
}

impl Words {
    fn take(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.shortest = if self.events == 0 { bytes } else { self.shortest.min(bytes) };
        self.events += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Estimated tokens: one for each event, and one more for each four bytes beyond the shortest.
    pub(crate) fn tokens(&self) -> u64 {
        self.events + self.bytes.saturating_sub(self.events.saturating_mul(self.shortest)) / 4
    }
}

/// Parses an answer while it passes.
pub(crate) struct Reader {
    api: Api,
    form: Form,
    pub(crate) seen: Seen,
}

enum Form {
    Events(Lines),
    Whole(Tail),
    Unread,
}

impl Reader {
    /// A reader for an answer as events, or for one in a single JSON body.
    pub(crate) fn new(api: Api, events: bool) -> Self {
        let form = if events { Form::Events(Lines::default()) } else { Form::Whole(Tail::default()) };
        Self { api, form, seen: Seen::default() }
    }

    /// For answers that cannot be parsed.
    pub(crate) fn blind(api: Api) -> Self {
        Self { api, form: Form::Unread, seen: Seen::default() }
    }

    /// Whether the answer must be marked as complete.
    pub(crate) fn expects_end(&self) -> bool {
        matches!(self.form, Form::Events(_))
    }

    /// Parses one piece.
    pub(crate) fn feed(&mut self, data: &[u8]) {
        let (api, seen) = (self.api, &mut self.seen);
        match &mut self.form {
            Form::Events(lines) => {
                // Most pieces are only output of the model: the piece is searched once instead of line by line.
                let tells = tells(api, data);
                lines.feed(data, |line, whole, cut| seen.line(api, line, tells || !whole, cut));
            }
            Form::Whole(tail) => {
                seen.words.bytes += data.len() as u64;
                tail.push(data);
            }
            Form::Unread => seen.words.bytes += data.len() as u64,
        }
    }

    /// The answer has ended.
    pub(crate) fn finish(&mut self) {
        let (api, seen) = (self.api, &mut self.seen);
        match &mut self.form {
            Form::Events(lines) => lines.finish(|line, cut| seen.line(api, line, true, cut)),
            Form::Whole(tail) => seen.whole(api, tail),
            Form::Unread => {}
        }
    }
}

/// Whether there may be something to count or report. Most events are output of the model, which is not parsed; quotes
/// within it are escaped, so they do not match.
fn tells(api: Api, data: &[u8]) -> bool {
    static FINDERS: LazyLock<[Vec<Finder<'static>>; 4]> = LazyLock::new(|| {
        let of = |parts: &[&'static str]| parts.iter().map(|part| Finder::new(*part)).collect();
        [
            of(&[r#""usage""#, r#""error""#, r#""message_stop""#]),
            of(&[r#""usage""#, r#""error""#, r#""finish_reason":""#, r#""finish_reason": ""#, "[DONE]"]),
            of(&[r#""usage""#, r#""error""#]),
            of(&[r#""usageMetadata""#, r#""finishReason""#, r#""error""#]),
        ]
    });
    let [messages, chat, responses, generate] = &*FINDERS;
    let telling = match api {
        Api::Messages => messages,
        Api::Chat => chat,
        Api::Responses => responses,
        Api::Generate => generate,
        Api::Count | Api::Models => return false,
    };
    telling.iter().any(|part| part.find(data).is_some())
}

impl Seen {
    /// One line; `tells` is false for lines that need no parsing.
    fn line(&mut self, api: Api, line: &[u8], tells: bool, cut: bool) {
        if cut {
            return self.end_of_a_long_line(api, line);
        }
        let Some(data) = line.strip_prefix(b"data:") else { return };
        let data = data.trim_ascii();
        if api == Api::Chat && data == b"[DONE]" {
            self.finished = true;
            return;
        }
        if !(tells && self::tells(api, data)) {
            return self.words.take(data.len());
        }
        let finished = self.finished;
        self.reports = false;
        if let Ok(event) = serde_json::from_slice::<Value>(data) {
            self.event(api, &event);
        }
        // Each chunk of output has a null usage, too.
        if !self.reports && self.finished == finished {
            self.words.take(data.len());
        }
    }

    fn event(&mut self, api: Api, event: &Value) {
        let kind = event["type"].as_str().unwrap_or_default();
        match api {
            Api::Messages => {
                match kind {
                    "message_stop" => self.finished = true,
                    "error" => self.fail(event["error"].clone()),
                    _ => {}
                }
                self.model(&event["message"]["model"]);
                self.anthropic(&event["message"]["usage"]);
                self.anthropic(&event["usage"]);
            }
            Api::Chat => {
                self.failed(&event["error"]);
                self.model(&event["model"]);
                self.finished |= event["choices"][0]["finish_reason"].is_string();
                self.chat(&event["usage"]);
            }
            Api::Responses => {
                let response = &event["response"];
                match kind {
                    "response.completed" | "response.incomplete" => self.finished = true,
                    "response.failed" => self.failed(&response["error"]),
                    "error" => self.fail(event.clone()),
                    _ => {}
                }
                self.model(&response["model"]);
                self.responses(&response["usage"]);
            }
            Api::Generate => {
                self.failed(&event["error"]);
                self.model(&event["modelVersion"]);
                self.finished |= event["candidates"][0]["finishReason"].is_string()
                    || event["promptFeedback"]["blockReason"].is_string();
                self.gemini(&event["usageMetadata"]);
            }
            Api::Count | Api::Models => {}
        }
    }

    /// Events of this length are the last ones: they repeat the whole answer.
    fn end_of_a_long_line(&mut self, api: Api, end: &[u8]) {
        self.end_of(api, end);
        self.finished |= self.usage.is_some();
    }

    fn end_of(&mut self, api: Api, end: &[u8]) {
        let key = if api == Api::Generate { r#""usageMetadata""# } else { r#""usage""# };
        let usage = last_value(end, key).unwrap_or_default();
        match api {
            Api::Messages => self.anthropic(&usage),
            Api::Chat => self.chat(&usage),
            Api::Responses => self.responses(&usage),
            Api::Generate => self.gemini(&usage),
            Api::Count | Api::Models => {}
        }
    }

    fn whole(&mut self, api: Api, body: &Tail) {
        if !api.generates() {
            return;
        }
        if body.is_cut() {
            return self.end_of(api, body.bytes());
        }
        // Only these parts are deserialized; the model's output is skipped.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Answer {
            model: Value,
            usage: Value,
            #[serde(rename = "modelVersion")]
            model_version: Value,
            #[serde(rename = "usageMetadata")]
            usage_metadata: Value,
        }
        // Gemini streams an array unless events are requested; its last part has the counts.
        let answer = if body.bytes().trim_ascii_start().starts_with(b"[") {
            serde_json::from_slice::<Vec<Answer>>(body.bytes()).ok().and_then(|mut parts| parts.pop())
        } else {
            serde_json::from_slice::<Answer>(body.bytes()).ok()
        };
        let answer = answer.unwrap_or_default();
        match api {
            Api::Messages => self.anthropic(&answer.usage),
            Api::Chat => self.chat(&answer.usage),
            Api::Responses => self.responses(&answer.usage),
            Api::Generate => self.gemini(&answer.usage_metadata),
            Api::Count | Api::Models => {}
        }
        self.model(&answer.model);
        self.model(&answer.model_version);
    }

    fn failed(&mut self, error: &Value) {
        if error.is_object() {
            self.fail(error.clone());
        }
    }

    fn fail(&mut self, error: Value) {
        (self.failure, self.reports) = (Some(error), true);
    }

    fn model(&mut self, name: &Value) {
        if let Some(name) = name.as_str().filter(|n| !n.is_empty()) {
            self.model = Some(name.to_owned());
        }
    }

    /// The start of a message has the input count, its end the output count; the later count is final.
    fn anthropic(&mut self, usage: &Value) {
        if !usage.is_object() {
            return;
        }
        self.reports = true;
        let counts = self.usage.get_or_insert_default();
        for (name, count) in [
            ("input_tokens", &mut counts.input),
            ("output_tokens", &mut counts.output),
            ("cache_read_input_tokens", &mut counts.cache_read),
            ("cache_creation_input_tokens", &mut counts.cache_write),
        ] {
            if let Some(n) = usage[name].as_u64() {
                *count = n;
            }
        }
    }

    /// The prompt's count includes cached tokens.
    fn chat(&mut self, usage: &Value) {
        let Some(read) = usage["prompt_tokens"].as_u64() else { return };
        let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
        self.openai(usage, read, cached, "completion_tokens");
    }

    fn responses(&mut self, usage: &Value) {
        let Some(read) = usage["input_tokens"].as_u64() else { return };
        let cached = usage["input_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
        self.openai(usage, read, cached, "output_tokens");
    }

    fn openai(&mut self, usage: &Value, read: u64, cached: u64, written: &str) {
        // Some gateways report the cost, in the currency of the account.
        let cost = usage["cost"].as_f64().filter(|cost| cost.is_finite() && (0.0..1e9).contains(cost));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded above
        let cost_micros = cost.map(|cost| (cost * 1e6).ceil() as u64);
        self.reports = true;
        self.usage = Some(Usage {
            input: read.saturating_sub(cached),
            output: usage[written].as_u64().unwrap_or(0),
            cache_read: cached.min(read),
            cost_micros,
            ..Usage::default()
        });
    }

    /// The prompt's count includes cached tokens; thoughts are counted separately.
    fn gemini(&mut self, usage: &Value) {
        if !usage.is_object() {
            return;
        }
        let count = |name: &str| usage[name].as_u64().unwrap_or(0);
        let (read, cached) = (count("promptTokenCount"), count("cachedContentTokenCount"));
        self.reports = true;
        self.usage = Some(Usage {
            input: read.saturating_sub(cached) + count("toolUsePromptTokenCount"),
            output: count("candidatesTokenCount") + count("thoughtsTokenCount"),
            cache_read: cached.min(read),
            ..Usage::default()
        });
    }
}
