//! Gemini `generateContent` and `streamGenerateContent`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Reply, everything, list, text};
use crate::fault::gemini;
use crate::frame::{Frame, event, speak};
use crate::offer::{Input, Offer};
use crate::turn::{Conversation, Item};

/// Model and streaming are in the path, so the caller sets them.
pub(crate) fn read(body: &Value) -> Conversation {
    let mut items = Vec::new();
    for content in list(&body["contents"]).iter().filter(|content| content["role"] != "model") {
        for part in list(&content["parts"]) {
            if part["functionResponse"].is_object() {
                items.push(Item::Result);
            } else if part["text"].is_string() {
                items.push(Item::Words(text(&part["text"])));
            }
        }
    }
    let functions = list(&body["tools"]).iter().flat_map(|tool| list(&tool["functionDeclarations"]));
    let offers = functions.map(|function| Offer {
        name: text(&function["name"]),
        namespace: None,
        schema: function.get("parametersJsonSchema").unwrap_or(&function["parameters"]).clone(),
        plain: false,
    });
    let config = &body["generationConfig"];
    let form = ["responseJsonSchema", "responseSchema"].iter().find_map(|name| config.get(name));
    Conversation {
        model: String::new(),
        stream: false,
        stream_usage: true,
        items,
        offers: offers.collect(),
        form: form.cloned(),
        everything: everything(&[&body["systemInstruction"], &body["contents"]]),
    }
}

fn answer(reply: &Reply<'_>, parts: &Value, last: bool) -> Value {
    let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": parts}});
    if last {
        candidate["finishReason"] = json!("STOP");
    }
    json!({
        "candidates": [candidate], "usageMetadata": reply.usage.gemini(), "modelVersion": reply.model,
        "responseId": reply.id,
    })
}

fn thought(reply: &Reply<'_>) -> Option<Value> {
    let thought = &reply.answer.thought;
    (!thought.is_empty()).then(|| json!({"text": thought, "thought": true}))
}

fn call(reply: &Reply<'_>) -> Option<Value> {
    let call = reply.answer.call.as_ref()?;
    let args = match &call.input {
        Input::Arguments(args) => args.clone(),
        Input::Plain(text) => json!({"input": text}),
    };
    Some(json!({"functionCall": {"id": format!("call_{}", reply.id), "name": call.name, "args": args}}))
}

pub(crate) fn whole(reply: &Reply<'_>) -> Value {
    let words = reply.answer.has_words().then(|| json!({"text": reply.text()}));
    let parts: Vec<Value> = thought(reply).into_iter().chain(words).chain(call(reply)).collect();
    answer(reply, &json!(parts), true)
}

pub(crate) fn frames(reply: &Reply<'_>) -> Vec<Frame> {
    let mut first = true;
    let mut piece = |value: &Value| -> Bytes {
        if reply.events {
            return format!("data: {value}\r\n\r\n").into();
        }
        let before = if std::mem::take(&mut first) { "[" } else { "\n,\r\n" };
        format!("{before}{value}").into()
    };
    let mut frames = Vec::new();
    if let Some(thought) = thought(reply) {
        frames.push(Frame::Event(piece(&answer(reply, &json!([thought]), false))));
    }
    frames.extend(speak(reply.answer, |word| piece(&answer(reply, &json!([{"text": word}]), false))));
    if let Some(fault) = reply.fault(|| {
        let error = gemini(503, "UNAVAILABLE", "the script breaks the stream", Vec::new());
        vec![Frame::Event(event(None, &error))]
    }) {
        if frames.is_empty() {
            frames.push(Frame::Event(piece(&answer(reply, &json!([{"text": ""}]), false))));
        }
        frames.extend(fault);
        return frames;
    }
    let last = call(reply).unwrap_or_else(|| json!({"text": ""}));
    frames.push(Frame::Event(piece(&answer(reply, &json!([last]), true))));
    if !reply.events {
        frames.push(Frame::Event("\n]".into()));
    }
    frames
}
