//! OpenAI chat completions.

use serde_json::{Value, json};

use super::{MADE_AT, Reply, everything, list, text, words};
use crate::fault::{Fault, openai};
use crate::frame::{Frame, event, speak};
use crate::offer::{Input, Offer};
use crate::turn::{Conversation, Item};

pub(crate) fn read(body: &Value) -> Conversation {
    let mut items = Vec::new();
    for message in list(&body["messages"]) {
        match message["role"].as_str() {
            Some("user") => items.extend(words(&message["content"])),
            Some("tool" | "function") => items.push(Item::Result),
            _ => {}
        }
    }
    let offers = list(&body["tools"]).iter().map(|tool| Offer {
        name: text(&tool["function"]["name"]),
        namespace: None,
        schema: tool["function"]["parameters"].clone(),
        plain: false,
    });
    Conversation {
        model: text(&body["model"]),
        stream: body["stream"] == true,
        stream_usage: body["stream_options"]["include_usage"] == true,
        items,
        offers: offers.collect(),
        form: body["response_format"]["json_schema"].get("schema").cloned(),
        everything: everything(&[&body["messages"]]),
    }
}

fn call(reply: &Reply<'_>) -> Option<(Value, String)> {
    let call = reply.answer.call.as_ref()?;
    let arguments = match &call.input {
        Input::Arguments(args) => args.to_string(),
        Input::Plain(text) => json!({"input": text}).to_string(),
    };
    let head = json!({
        "id": format!("call_{}", reply.id), "type": "function", "function": {"name": call.name, "arguments": ""},
    });
    Some((head, arguments))
}

fn finish(reply: &Reply<'_>) -> &'static str {
    if reply.answer.call.is_some() { "tool_calls" } else { "stop" }
}

pub(crate) fn whole(reply: &Reply<'_>) -> Value {
    let mut message = json!({"role": "assistant", "content": null, "refusal": null});
    if reply.answer.has_words() {
        message["content"] = json!(reply.text());
    }
    if !reply.answer.thought.is_empty() {
        message["reasoning_content"] = json!(reply.answer.thought);
    }
    if let Some((mut call, arguments)) = call(reply) {
        call["function"]["arguments"] = json!(arguments);
        message["tool_calls"] = json!([call]);
    }
    json!({
        "id": format!("chatcmpl-{}", reply.id), "object": "chat.completion", "created": MADE_AT, "model": reply.model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish(reply)}],
        "usage": reply.usage.chat(), "system_fingerprint": null,
    })
}

pub(crate) fn frames(reply: &Reply<'_>) -> Vec<Frame> {
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", reply.id), "object": "chat.completion.chunk", "created": MADE_AT,
            "model": reply.model, "system_fingerprint": null, "choices": choices,
        });
        if reply.stream_usage {
            chunk["usage"] = usage;
        }
        event(None, &chunk)
    };
    let delta = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
        chunk(json!([choice]), Value::Null)
    };
    let mut frames = vec![Frame::Event(delta(json!({"role": "assistant", "content": ""}), Value::Null))];
    if !reply.answer.thought.is_empty() {
        frames.push(Frame::Token(delta(json!({"reasoning_content": reply.answer.thought}), Value::Null)));
    }
    frames.extend(speak(reply.answer, |word| delta(json!({"content": word}), Value::Null)));
    if let Some(fault) = reply.fault(|| {
        let (kind, code) = Fault::Broken.openai_kind();
        vec![Frame::Event(event(None, &openai(kind, code, "the script breaks the stream")))]
    }) {
        frames.extend(fault);
        return frames;
    }
    if let Some((mut head, arguments)) = call(reply) {
        head["index"] = json!(0);
        frames.push(Frame::Token(delta(json!({"tool_calls": [head]}), Value::Null)));
        let more = json!({"index": 0, "function": {"arguments": arguments}});
        frames.push(Frame::Event(delta(json!({"tool_calls": [more]}), Value::Null)));
    }
    frames.push(Frame::Event(delta(json!({}), json!(finish(reply)))));
    if reply.stream_usage {
        frames.push(Frame::Event(chunk(json!([]), reply.usage.chat())));
    }
    frames.push(Frame::Event("data: [DONE]\n\n".into()));
    frames
}
