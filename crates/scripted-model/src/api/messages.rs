//! Anthropic's Messages API.

use serde_json::{Value, json};

use super::{Reply, everything, list, text, words};
use crate::fault::anthropic;
use crate::frame::{Frame, event, speak};
use crate::offer::{Input, Offer};
use crate::turn::{Conversation, Item};

pub(crate) fn read(body: &Value) -> Conversation {
    let mut items = Vec::new();
    for message in list(&body["messages"]).iter().filter(|message| message["role"] == "user") {
        if message["content"].is_string() {
            items.extend(words(&message["content"]));
        }
        for block in list(&message["content"]) {
            match block["type"].as_str() {
                Some("tool_result") => items.push(Item::Result),
                Some("text") => items.push(Item::Words(text(&block["text"]))),
                _ => {}
            }
        }
    }
    let offers = list(&body["tools"]).iter().map(|tool| Offer {
        name: text(&tool["name"]),
        namespace: None,
        schema: tool["input_schema"].clone(),
        plain: false,
    });
    let form = body["output_config"]["format"].get("schema").or(body["output_format"].get("schema"));
    Conversation {
        model: text(&body["model"]),
        stream: body["stream"] == true,
        stream_usage: true,
        items,
        offers: offers.collect(),
        form: form.cloned(),
        everything: everything(&[&body["system"], &body["messages"]]),
    }
}

/// The blocks of the answer, complete.
fn content(reply: &Reply<'_>, with_flood: bool) -> Vec<Value> {
    let mut content = Vec::new();
    if !reply.answer.thought.is_empty() {
        content
            .push(json!({"type": "thinking", "thinking": reply.answer.thought, "signature": "c2NyaXB0ZWQ="}));
    }
    if reply.answer.has_words() {
        let words = if with_flood { reply.text() } else { reply.answer.text() };
        content.push(json!({"type": "text", "text": words}));
    }
    if let Some(call) = &reply.answer.call {
        let input = match &call.input {
            Input::Arguments(args) => args.clone(),
            Input::Plain(text) => json!({"input": text}),
        };
        content.push(json!({"type": "tool_use", "id": format!("toolu_{}", reply.id), "name": call.name, "input": input}));
    }
    content
}

fn stop_reason(reply: &Reply<'_>) -> &'static str {
    if reply.answer.call.is_some() { "tool_use" } else { "end_turn" }
}

pub(crate) fn whole(reply: &Reply<'_>) -> Value {
    json!({
        "id": format!("msg_{}", reply.id), "type": "message", "role": "assistant", "model": reply.model,
        "content": content(reply, true), "stop_reason": stop_reason(reply), "stop_sequence": null,
        "usage": reply.usage.messages(),
    })
}

/// One event, whose name is its type.
fn named(data: &Value) -> Frame {
    Frame::Event(event(data["type"].as_str(), data))
}

pub(crate) fn frames(reply: &Reply<'_>) -> Vec<Frame> {
    let mut begun = reply.usage.messages();
    begun["output_tokens"] = json!(1);
    let message = json!({
        "id": format!("msg_{}", reply.id), "type": "message", "role": "assistant", "model": reply.model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": begun,
    });
    let mut frames =
        vec![named(&json!({"type": "message_start", "message": message})), named(&json!({"type": "ping"}))];
    let fault =
        || reply.fault(|| vec![named(&anthropic("overloaded_error", "the script breaks the stream"))]);
    if !reply.answer.has_words() {
        frames.extend(speak(reply.answer, |_| bytes::Bytes::new()));
    }
    let blocks = content(reply, false);
    for (index, block) in blocks.iter().enumerate() {
        if block["type"] == "tool_use"
            && let Some(fault) = fault()
        {
            frames.extend(fault);
            return frames;
        }
        frames.extend(self::block(reply, index, block));
        if block["type"] == "text"
            && let Some(fault) = fault()
        {
            frames.extend(fault);
            return frames;
        }
        frames.push(named(&json!({"type": "content_block_stop", "index": index})));
    }
    if let Some(fault) = fault() {
        frames.extend(fault);
        return frames;
    }
    frames.push(named(&json!({
        "type": "message_delta", "delta": {"stop_reason": stop_reason(reply), "stop_sequence": null},
        "usage": reply.usage.messages(),
    })));
    frames.push(named(&json!({"type": "message_stop"})));
    frames
}

/// Starts a block and fills it; the caller ends it.
fn block(reply: &Reply<'_>, index: usize, block: &Value) -> Vec<Frame> {
    let mut empty = block.clone();
    let kind = block["type"].as_str().unwrap_or_default();
    match kind {
        "text" => empty["text"] = json!(""),
        "thinking" => {
            empty["thinking"] = json!("");
            empty["signature"] = json!("");
        }
        _ => empty["input"] = json!({}),
    }
    let delta = |delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let mut frames =
        vec![named(&json!({"type": "content_block_start", "index": index, "content_block": empty}))];
    match kind {
        "text" => frames.extend(speak(reply.answer, |word| {
            event(Some("content_block_delta"), &delta(json!({"type": "text_delta", "text": word})))
        })),
        "thinking" => {
            frames.push(named(&delta(json!({"type": "thinking_delta", "thinking": block["thinking"]}))));
            frames.push(named(&delta(json!({"type": "signature_delta", "signature": block["signature"]}))));
        }
        _ => {
            let json = block["input"].to_string();
            frames.push(named(&delta(json!({"type": "input_json_delta", "partial_json": json}))));
        }
    }
    frames
}
