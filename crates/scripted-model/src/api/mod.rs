//! The four APIs: each parses its own form of a conversation and writes its own form of an answer.

pub(crate) mod chat;
pub(crate) mod gemini;
pub(crate) mod messages;
pub(crate) mod responses;

use serde_json::Value;

use crate::fault::Fault;
use crate::frame::Frame;
use crate::turn::{Answer, Conversation, Item};
use crate::usage::Usage;

/// The API of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// OpenAI's `POST …/v1/chat/completions`.
    Chat,
    /// OpenAI's `POST …/v1/responses`.
    Responses,
    /// Anthropic's `POST …/v1/messages`.
    Messages,
    /// Gemini's `POST …/v1beta/models/NAME:generateContent`.
    Gemini,
}

/// An answer with the data around it.
pub(crate) struct Reply<'a> {
    pub(crate) answer: &'a Answer,
    pub(crate) usage: Usage,
    pub(crate) model: &'a str,
    /// Unique per request, and the same when the request is repeated.
    pub(crate) id: String,
    pub(crate) stream_usage: bool,
    /// Gemini only: server-sent events, or else one growing JSON array.
    pub(crate) events: bool,
}

/// 2026-01-01, the creation time of every answer.
pub(crate) const MADE_AT: u64 = 1_767_225_600;

impl Api {
    pub(crate) fn read(self, body: &Value) -> Conversation {
        match self {
            Self::Chat => chat::read(body),
            Self::Responses => responses::read(body),
            Self::Messages => messages::read(body),
            Self::Gemini => gemini::read(body),
        }
    }

    /// The whole answer at once.
    pub(crate) fn whole(self, reply: &Reply<'_>) -> Value {
        match self {
            Self::Chat => chat::whole(reply),
            Self::Responses => responses::whole(reply),
            Self::Messages => messages::whole(reply),
            Self::Gemini => gemini::whole(reply),
        }
    }

    /// The answer as a stream, with the answer's fault if that is a late one.
    pub(crate) fn frames(self, reply: &Reply<'_>) -> Vec<Frame> {
        match self {
            Self::Chat => chat::frames(reply),
            Self::Responses => responses::frames(reply),
            Self::Messages => messages::frames(reply),
            Self::Gemini => gemini::frames(reply),
        }
    }
}

impl Reply<'_> {
    /// The text of the answer, with its flood.
    fn text(&self) -> String {
        let mut text = self.answer.text();
        for piece in &self.answer.pieces {
            if let crate::turn::Piece::Flood(bytes) = piece {
                text.push_str(&crate::frame::flood_text(usize::try_from(*bytes).unwrap_or(usize::MAX)));
            }
        }
        text
    }

    /// The frames of a late fault; `broken` makes the provider's own error event.
    fn fault(&self, broken: impl FnOnce() -> Vec<Frame>) -> Option<Vec<Frame>> {
        match self.answer.fault? {
            Fault::Cut => Some(vec![Frame::Cut]),
            Fault::Stalled => Some(vec![Frame::Stall]),
            Fault::Broken => Some(broken()),
            _ => None,
        }
    }
}

/// The text of a message's content: a string, or parts with texts, each an item of its own.
fn words(content: &Value) -> Vec<Item> {
    match content {
        Value::String(text) => vec![Item::Words(text.clone())],
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part["text"].as_str());
            texts.map(|text| Item::Words(text.to_owned())).collect()
        }
        _ => Vec::new(),
    }
}

/// Appends every string of a value, to search for text in them.
pub(crate) fn strings(value: &Value, to: &mut String) {
    match value {
        Value::String(text) => {
            to.push_str(text);
            to.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, to)),
        Value::Object(members) => members.values().for_each(|member| strings(member, to)),
        _ => {}
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn everything(values: &[&Value]) -> String {
    let mut all = String::new();
    values.iter().for_each(|value| strings(value, &mut all));
    all
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
