//! The parts of the Agent Client Protocol that Foundry uses, parsed leniently from the messages of a tap log: an absent
//! field is empty, and an update of an unknown kind is kept as it came.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tap::Direction;

/// An error the agent (or the runtime in our place) answered with.
#[derive(Clone, Debug, PartialEq, Deserialize, thiserror::Error)]
#[error("the agent returned error {code}: {message}")]
pub struct RpcError {
    /// The JSON-RPC error code.
    pub code: i64,
    /// The error text, as the sender wrote it.
    pub message: String,
    /// Further details in the sender's own form; null when there are none.
    #[serde(default)]
    pub data: Value,
}

/// A message with its meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum AcpEvent {
    /// We sent the agent a request.
    Asked {
        /// Id of the request.
        id: Value,
        /// The JSON-RPC method.
        method: String,
        /// The request's parameters.
        params: Value,
    },
    /// We answered a permission request (or another request of the agent).
    Replied {
        /// Id of the agent's request.
        id: Value,
        /// The chosen option; none = cancelled, or not an answer to a permission request.
        option: Option<String>,
    },
    /// We sent the agent a notification, e.g. `session/cancel`.
    Notified {
        /// The JSON-RPC method.
        method: String,
    },
    /// The agent answered one of our requests; of a prompt, the end of the turn.
    Answered {
        /// Id of our request.
        id: Value,
        /// The result, or the error that the agent answered with.
        result: Result<Value, RpcError>,
    },
    /// A `session/update` notification.
    Updated {
        /// The agent's id of the session.
        session: String,
        /// The part of the session that changed.
        update: Update,
    },
    /// The agent requests permission, and waits for the answer.
    PermissionAsked {
        /// Id to answer under.
        id: Value,
        /// The agent's id of the session.
        session: String,
        /// The tool call that needs permission.
        tool_call: Box<ToolCall>,
        /// The possible answers.
        options: Vec<PermissionOption>,
    },
    /// Any other message of the agent.
    Other {
        /// Its method; empty for a message without one.
        method: String,
        /// Its id, if it expects an answer.
        id: Option<Value>,
        /// The parameters; null when there are none.
        params: Value,
    },
}

/// A change of a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A part of an agent message.
    MessageChunk(Chunk),
    /// A part of the agent's reasoning.
    ThoughtChunk(Chunk),
    /// A part of a user message, when an earlier session is replayed.
    UserChunk(Chunk),
    /// A tool call began.
    ToolCall(Box<ToolCall>),
    /// A tool call changed: only the changed fields are set.
    ToolCallUpdate(Box<ToolCall>),
    /// The whole plan.
    Plan(Vec<PlanEntry>),
    /// A kind that this version does not support.
    Raw {
        /// The kind's name in the protocol.
        kind: String,
        /// The whole update.
        value: Value,
    },
}

/// A part of a message or thought.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The message it belongs to, where the agent states it; empty = the current one.
    pub message_id: String,
    /// The added content.
    pub content: Content,
}

/// The content of a chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// A text block.
    Text {
        /// The text as the agent sent it, often Markdown.
        text: String,
    },
    /// An image, a resource or the like, as it came.
    Other(Value),
}

impl Content {
    /// The text; empty for other content.
    pub fn text(&self) -> &str {
        match self {
            Self::Text { text } => text,
            Self::Other(_) => "",
        }
    }
}

/// A tool call, or the changed fields of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ToolCall {
    /// The agent's id of the call, unique in the session.
    pub tool_call_id: String,
    /// A description for users.
    pub title: Option<String>,
    /// `read`, `edit`, `delete`, `move`, `search`, `execute`, `think`, `fetch`, `other` …
    pub kind: Option<String>,
    /// `pending`, `in_progress`, `completed`, `failed` …
    pub status: Option<String>,
    /// The content it produced so far.
    pub content: Option<Vec<ToolContent>>,
    /// The files it touches.
    pub locations: Option<Vec<Location>>,
    /// The tool's input, in its own form.
    pub raw_input: Option<Value>,
    /// The tool's output, in its own form.
    pub raw_output: Option<Value>,
    /// `_meta`, for extensions of the protocol; Codex puts a command's output there.
    #[serde(rename = "_meta")]
    pub meta: Option<Value>,
}

impl ToolCall {
    /// What a command has printed since the last update, for agents that show it in a terminal of their own.
    pub fn terminal_output(&self) -> Option<&str> {
        self.meta.as_ref()?.pointer("/terminal_output_delta/data")?.as_str()
    }
}

/// A part of a tool call's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ToolContent {
    /// A change of a file.
    #[serde(rename_all = "camelCase")]
    Diff {
        /// Absolute path of the file.
        path: String,
        /// The text before the change; none = a new file.
        #[serde(default)]
        old_text: Option<String>,
        /// The text after the change.
        new_text: String,
    },
    /// Text or other content.
    Content {
        /// The content block.
        content: Content,
    },
    /// Anything else, as it came.
    Other(Value),
}

/// A place in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Location {
    /// Absolute path of the file.
    pub path: String,
    /// The line number; absent for the whole file.
    pub line: Option<u64>,
}

/// One entry of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanEntry {
    /// The task in this entry.
    pub content: String,
    /// `high`, `medium`, `low`.
    pub priority: String,
    /// `pending`, `in_progress`, `completed`.
    pub status: String,
}

/// One possible answer to a permission request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PermissionOption {
    /// The id to answer with.
    pub option_id: String,
    /// The label for users.
    pub name: String,
    /// `allow_once`, `allow_always`, `reject_once`, `reject_always`.
    pub kind: String,
}

/// Why a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The agent finished its turn.
    EndTurn,
    /// It ran out of tokens.
    MaxTokens,
    /// It made too many requests in one turn.
    MaxTurnRequests,
    /// The agent or its model refused to continue.
    Refusal,
    /// The turn was cancelled.
    Cancelled,
    /// Another reason, by name.
    Other(String),
}

/// The stop reason in the answer to a prompt.
pub fn stop_reason(result: &Value) -> StopReason {
    match text(result, "stopReason").as_str() {
        "end_turn" => StopReason::EndTurn,
        "max_tokens" => StopReason::MaxTokens,
        "max_turn_requests" => StopReason::MaxTurnRequests,
        "refusal" => StopReason::Refusal,
        "cancelled" => StopReason::Cancelled,
        other => StopReason::Other(other.to_owned()),
    }
}

impl AcpEvent {
    /// Parses a message. Never fails: an unknown message is [`AcpEvent::Other`] or [`Update::Raw`].
    pub fn parse(direction: Direction, mut json: Value) -> Self {
        let method = text(&json, "method");
        let id = json.get("id").cloned();
        let params = json.get_mut("params").map(Value::take).unwrap_or_default();
        match (direction, method.as_str(), id) {
            (Direction::ToAgent, "", id) => {
                let option = json.pointer("/result/outcome/optionId").and_then(Value::as_str);
                Self::Replied { id: id.unwrap_or_default(), option: option.map(str::to_owned) }
            }
            (Direction::ToAgent, _, Some(id)) => Self::Asked { id, method, params },
            (Direction::ToAgent, _, None) => Self::Notified { method },
            (Direction::FromAgent, "", Some(id)) => Self::Answered { id, result: answer(json) },
            (Direction::FromAgent, "session/update", None) => updated(params),
            (Direction::FromAgent, "session/request_permission", Some(id)) => Self::PermissionAsked {
                id,
                session: text(&params, "sessionId"),
                tool_call: Box::new(field(&params, "toolCall")),
                options: field(&params, "options"),
            },
            (Direction::FromAgent, _, id) => Self::Other { method, id, params },
        }
    }
}

fn answer(mut json: Value) -> Result<Value, RpcError> {
    match json.get_mut("error").map(Value::take) {
        Some(error) => Err(serde_json::from_value(error.clone()).unwrap_or_else(|_| RpcError {
            code: 0,
            message: error.to_string(),
            data: Value::Null,
        })),
        None => Ok(json.get_mut("result").map(Value::take).unwrap_or_default()),
    }
}

fn updated(mut params: Value) -> AcpEvent {
    let session = text(&params, "sessionId");
    let value = params.get_mut("update").map(Value::take).unwrap_or_default();
    let kind = text(&value, "sessionUpdate");
    let chunk = || Chunk {
        message_id: text(&value, "messageId"),
        content: field_or(&value, "content", Content::Other(Value::Null)),
    };
    let update = match kind.as_str() {
        "agent_message_chunk" => Update::MessageChunk(chunk()),
        "agent_thought_chunk" => Update::ThoughtChunk(chunk()),
        "user_message_chunk" => Update::UserChunk(chunk()),
        "plan" => Update::Plan(field(&value, "entries")),
        "tool_call" | "tool_call_update" => match serde_json::from_value::<ToolCall>(value.clone()) {
            Ok(call) if kind == "tool_call" => Update::ToolCall(Box::new(call)),
            Ok(call) => Update::ToolCallUpdate(Box::new(call)),
            Err(_) => Update::Raw { kind, value },
        },
        _ => Update::Raw { kind, value },
    };
    AcpEvent::Updated { session, update }
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn field<T: serde::de::DeserializeOwned + Default>(value: &Value, key: &str) -> T {
    field_or(value, key, T::default())
}

fn field_or<T: serde::de::DeserializeOwned>(value: &Value, key: &str, otherwise: T) -> T {
    value.get(key).and_then(|v| T::deserialize(v).ok()).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn from_agent(update: Value) -> Update {
        let message = json!({"method": "session/update", "params": {"sessionId": "s", "update": update}});
        match AcpEvent::parse(Direction::FromAgent, message) {
            AcpEvent::Updated { session, update } if session == "s" => update,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_chunks_tool_calls_and_plans() {
        let chunk = json!({"sessionUpdate": "agent_thought_chunk", "content": {"type": "text", "text": "hm"}, "messageId": "m1"});
        let Update::ThoughtChunk(chunk) = from_agent(chunk) else { panic!() };
        assert_eq!((chunk.message_id.as_str(), chunk.content.text()), ("m1", "hm"));
        let call = json!({
            "sessionUpdate": "tool_call", "toolCallId": "t", "title": "Edit", "kind": "edit", "status": "pending",
            "locations": [{"path": "/workspace/a", "line": 3}],
            "content": [
                {"type": "diff", "path": "a", "oldText": null, "newText": "n"},
                {"type": "content", "content": {"type": "text", "text": "done"}},
                {"type": "terminal", "terminalId": "x"},
            ],
            "rawInput": {"command": "ls"},
        });
        let Update::ToolCall(call) = from_agent(call) else { panic!() };
        assert_eq!((call.title.as_deref(), call.kind.as_deref()), (Some("Edit"), Some("edit")));
        assert_eq!(call.locations.unwrap()[0].line, Some(3));
        let content = call.content.unwrap();
        assert!(matches!(&content[0], ToolContent::Diff { old_text: None, new_text, .. } if new_text == "n"));
        assert!(matches!(&content[1], ToolContent::Content { content } if content.text() == "done"));
        assert!(matches!(&content[2], ToolContent::Other(v) if v["terminalId"] == "x"));
        let update = json!({"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "completed"});
        assert!(matches!(from_agent(update), Update::ToolCallUpdate(c) if c.title.is_none()));
        let plan = json!({"sessionUpdate": "plan", "entries": [{"content": "c", "status": "pending"}]});
        assert!(matches!(from_agent(plan), Update::Plan(e) if e[0].content == "c"));
    }

    #[test]
    fn keeps_what_it_does_not_know() {
        let unknown = json!({"sessionUpdate": "usage_update", "size": 3});
        assert!(
            matches!(from_agent(unknown), Update::Raw { kind, value } if kind == "usage_update" && value["size"] == 3)
        );
        let broken = json!({"sessionUpdate": "tool_call", "toolCallId": 5});
        assert!(matches!(from_agent(broken), Update::Raw { .. }));
        let other = AcpEvent::parse(Direction::FromAgent, json!({"id": 1, "method": "fs/read_text_file"}));
        assert!(matches!(other, AcpEvent::Other { id: Some(_), .. }));
        for nonsense in [json!(null), json!([]), json!("x"), json!({})] {
            AcpEvent::parse(Direction::FromAgent, nonsense.clone());
            AcpEvent::parse(Direction::ToAgent, nonsense);
        }
    }

    #[test]
    fn reads_permission_requests_answers_and_errors() {
        let asked = json!({"id": 7, "method": "session/request_permission", "params": {
            "sessionId": "s", "toolCall": {"toolCallId": "t"},
            "options": [{"optionId": "yes", "name": "Allow", "kind": "allow_once"}]}});
        let AcpEvent::PermissionAsked { id, options, .. } = AcpEvent::parse(Direction::FromAgent, asked)
        else {
            panic!()
        };
        assert_eq!((id, options[0].option_id.as_str()), (json!(7), "yes"));
        let replied = json!({"id": 7, "result": {"outcome": {"outcome": "selected", "optionId": "yes"}}});
        let replied = AcpEvent::parse(Direction::ToAgent, replied);
        assert_eq!(replied, AcpEvent::Replied { id: json!(7), option: Some("yes".into()) });
        let done = json!({"id": "m", "result": {"stopReason": "cancelled"}});
        let AcpEvent::Answered { result: Ok(result), .. } = AcpEvent::parse(Direction::FromAgent, done)
        else {
            panic!()
        };
        assert_eq!(stop_reason(&result), StopReason::Cancelled);
        let failed = json!({"id": "m", "error": {"code": -32603, "message": "boom"}});
        let AcpEvent::Answered { result: Err(e), .. } = AcpEvent::parse(Direction::FromAgent, failed) else {
            panic!()
        };
        assert_eq!((e.code, e.message.as_str()), (-32603, "boom"));
    }
}
