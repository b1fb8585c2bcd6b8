//! OpenAI's Responses API.

use serde_json::{Value, json};

use super::{MADE_AT, Reply, everything, list, text, words};
use crate::fault::Fault;
use crate::frame::{Frame, event, speak};
use crate::offer::{Input, Offer};
use crate::turn::{Conversation, Item};

pub(crate) fn read(body: &Value) -> Conversation {
    let mut items = Vec::new();
    let mut offers = Vec::new();
    offer(&body["tools"], None, &mut offers);
    if body["input"].is_string() {
        items.extend(words(&body["input"]));
    }
    for item in list(&body["input"]) {
        let kind = item["type"].as_str().unwrap_or("message");
        if kind == "additional_tools" {
            // Codex offers its tools in this form to models that it supports.
            offer(&item["tools"], None, &mut offers);
        } else if kind.ends_with("_output") {
            items.push(Item::Result);
        } else if item["role"] == "user" {
            items.extend(words(&item["content"]));
        }
    }
    Conversation {
        model: text(&body["model"]),
        stream: body["stream"] == true,
        stream_usage: true,
        items,
        offers,
        form: body["text"]["format"].get("schema").cloned(),
        everything: everything(&[&body["instructions"], &body["input"]]),
    }
}

fn offer(tools: &Value, namespace: Option<&str>, offers: &mut Vec<Offer>) {
    for tool in list(tools) {
        if tool["type"] == "namespace" {
            offer(&tool["tools"], tool["name"].as_str(), offers);
            continue;
        }
        let plain = tool["type"] == "custom";
        let name = tool["name"].as_str().or(tool["type"].as_str()).unwrap_or_default();
        // The input of a plain-text tool is described in its description.
        let schema = if plain { &tool["description"] } else { &tool["parameters"] };
        offers.push(Offer {
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
            schema: schema.clone(),
            plain,
        });
    }
}

/// The items of the answer, complete.
fn output(reply: &Reply<'_>, with_text: bool) -> Vec<Value> {
    let mut output = Vec::new();
    if !reply.answer.thought.is_empty() {
        let summary = json!({"type": "summary_text", "text": reply.answer.thought});
        output.push(json!({"type": "reasoning", "id": format!("rs_{}", reply.id), "summary": [summary]}));
    }
    if reply.answer.has_words() {
        let words = if with_text { reply.text() } else { reply.answer.text() };
        let content = json!({"type": "output_text", "text": words, "annotations": [], "logprobs": []});
        output.push(json!({
            "type": "message", "id": format!("msg_{}", reply.id), "role": "assistant", "status": "completed",
            "content": [content],
        }));
    }
    if let Some(call) = &reply.answer.call {
        let call_id = format!("call_{}", reply.id);
        let mut item = match &call.input {
            Input::Plain(text) => json!({
                "type": "custom_tool_call", "id": format!("ctc_{}", reply.id), "call_id": call_id, "name": call.name,
                "input": text, "status": "completed",
            }),
            Input::Arguments(args) => json!({
                "type": "function_call", "id": format!("fc_{}", reply.id), "call_id": call_id, "name": call.name,
                "arguments": args.to_string(), "status": "completed",
            }),
        };
        if let Some(namespace) = &call.namespace {
            item["namespace"] = json!(namespace);
        }
        output.push(item);
    }
    output
}

fn response(reply: &Reply<'_>, status: &str, output: &[Value]) -> Value {
    json!({
        "id": format!("resp_{}", reply.id), "object": "response", "created_at": MADE_AT, "status": status,
        "error": null, "incomplete_details": null, "model": reply.model, "output": output,
        "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
        "usage": if status == "completed" { reply.usage.responses() } else { Value::Null },
    })
}

pub(crate) fn whole(reply: &Reply<'_>) -> Value {
    response(reply, "completed", &output(reply, true))
}

/// Counts the events of a stream.
struct Events(u64);

impl Events {
    fn event(&mut self, kind: &str, mut data: Value) -> bytes::Bytes {
        data["type"] = json!(kind);
        data["sequence_number"] = json!(self.0);
        self.0 += 1;
        event(Some(kind), &data)
    }
}

pub(crate) fn frames(reply: &Reply<'_>) -> Vec<Frame> {
    let mut events = Events(0);
    let output = output(reply, false);
    let begun = response(reply, "in_progress", &[]);
    let mut frames = vec![
        Frame::Event(events.event("response.created", json!({"response": begun}))),
        Frame::Event(events.event("response.in_progress", json!({"response": begun}))),
    ];
    let mut said = false;
    for (index, item) in output.iter().enumerate() {
        let is_call = item["type"] != "reasoning" && item["type"] != "message";
        if is_call && !said {
            frames.extend(quiet(reply));
            said = true;
        }
        if is_call && let Some(fault) = fault(reply, &mut events) {
            frames.extend(fault);
            return frames;
        }
        match item["type"].as_str() {
            Some("message") => {
                frames.extend(message(reply, &mut events, index, item));
                said = true;
                if let Some(fault) = fault(reply, &mut events) {
                    frames.extend(fault);
                    return frames;
                }
            }
            _ => frames.extend(other(&mut events, index, item)),
        }
        let done = json!({"output_index": index, "item": item});
        if item["type"] == "message" {
            let part = json!({"item_id": item["id"], "output_index": index, "content_index": 0});
            let text = with(&part, "text", item["content"][0]["text"].clone());
            frames.push(Frame::Event(events.event("response.output_text.done", text)));
            let part = with(&part, "part", item["content"][0].clone());
            frames.push(Frame::Event(events.event("response.content_part.done", part)));
        }
        frames.push(Frame::Event(events.event("response.output_item.done", done)));
    }
    if !said {
        frames.extend(quiet(reply));
    }
    if let Some(fault) = fault(reply, &mut events) {
        frames.extend(fault);
        return frames;
    }
    let whole = response(reply, "completed", &output);
    frames.push(Frame::Event(events.event("response.completed", json!({"response": whole}))));
    frames
}

/// The frames between words, for an answer without words.
fn quiet(reply: &Reply<'_>) -> Vec<Frame> {
    speak(reply.answer, |_| bytes::Bytes::new())
}

fn fault(reply: &Reply<'_>, events: &mut Events) -> Option<Vec<Frame>> {
    reply.fault(|| {
        let mut failed = response(reply, "failed", &[]);
        let (kind, code) = Fault::Broken.openai_kind();
        failed["error"] = json!({"code": code.unwrap_or(kind), "message": "the script breaks the stream"});
        vec![Frame::Event(events.event("response.failed", json!({"response": failed})))]
    })
}

/// Starts a message and sends it word by word.
fn message(reply: &Reply<'_>, events: &mut Events, index: usize, item: &Value) -> Vec<Frame> {
    let mut begun = item.clone();
    begun["status"] = json!("in_progress");
    begun["content"] = json!([]);
    let at = json!({"item_id": item["id"], "output_index": index, "content_index": 0});
    let empty = json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []});
    let added = json!({"output_index": index, "item": begun});
    let mut frames = vec![
        Frame::Event(events.event("response.output_item.added", added)),
        Frame::Event(events.event("response.content_part.added", with(&at, "part", empty))),
    ];
    frames.extend(speak(reply.answer, |word| {
        events.event(
            "response.output_text.delta",
            with(&with(&at, "delta", json!(word)), "logprobs", json!([])),
        )
    }));
    frames
}

/// Reasoning and calls: they start empty and come in one piece.
fn other(events: &mut Events, index: usize, item: &Value) -> Vec<Frame> {
    let mut begun = item.clone();
    let at = json!({"item_id": item["id"], "output_index": index});
    let mut after = Vec::new();
    let (field, kind) = match item["type"].as_str() {
        Some("reasoning") => ("summary", "reasoning_summary"),
        Some("custom_tool_call") => ("input", "custom_tool_call_input"),
        _ => ("arguments", "function_call_arguments"),
    };
    begun[field] = if field == "summary" { json!([]) } else { json!("") };
    let first = events.event("response.output_item.added", json!({"output_index": index, "item": begun}));
    if field == "summary" {
        let at = with(&at, "summary_index", json!(0));
        let thought = &item["summary"][0]["text"];
        let empty = json!({"type": "summary_text", "text": ""});
        for (event, name, value) in [
            ("part.added", "part", &empty),
            ("text.delta", "delta", thought),
            ("text.done", "text", thought),
            ("part.done", "part", &item["summary"][0]),
        ] {
            after.push(events.event(&format!("response.{kind}_{event}"), with(&at, name, value.clone())));
        }
    } else {
        after.push(events.event(&format!("response.{kind}.delta"), with(&at, "delta", item[field].clone())));
        after.push(events.event(&format!("response.{kind}.done"), with(&at, field, item[field].clone())));
    }
    std::iter::once(first).chain(after).map(Frame::Event).collect()
}

fn with(value: &Value, name: &str, member: Value) -> Value {
    let mut value = value.clone();
    value[name] = member;
    value
}
