//! Tool calls: the agent sends changes, a part holds the whole call.

use std::collections::BTreeMap;

use foundry_proto::common::v1::{ToolCall, ToolCallState};
use foundry_sandbox::acp::{self, ToolContent};
use serde::{Deserialize, Serialize};

use crate::domain::text::{head, tail};

/// Calls that are kept at most; the oldest by id is forgotten first.
const MAX_OPEN: usize = 64;
/// Files that one call shows at most.
const MAX_SHOWN: usize = 32;
const MAX_INPUT: usize = 1 << 10;
const MAX_OUTPUT: usize = 2 << 10;

/// The open tool calls of a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Tools(BTreeMap<String, Tool>);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Tool {
    title: String,
    kind: String,
    status: String,
    locations: Vec<String>,
    input: String,
    output: String,
    truncated: bool,
    /// Whether its output comes in pieces, as a terminal shows it.
    in_terminal: bool,
    parts: i32,
    /// Marks of the files that it has shown.
    shown: Vec<String>,
}

impl Tools {
    /// Applies an update of a call. Returns the call as it is now, the number of its part, and whether it has just
    /// ended in a way that may have changed files.
    pub(super) fn update(
        &mut self,
        id: &str,
        news: &acp::ToolCall,
        workspace: &str,
    ) -> (ToolCall, i32, bool) {
        if self.0.len() >= MAX_OPEN && !self.0.contains_key(id) {
            self.0.pop_first();
        }
        let tool = self.0.entry(id.to_owned()).or_default();
        let was_done = tool.is_done();
        tool.apply(news, workspace);
        tool.parts += 1;
        let worked =
            tool.is_done() && !was_done && !["read", "search", "think"].contains(&tool.kind.as_str());
        (tool.to_proto(id), tool.parts - 1, worked)
    }

    /// Gives back a part number: the call's last part was replaced, not followed by another one.
    pub(super) fn merged(&mut self, id: &str) {
        if let Some(tool) = self.0.get_mut(id) {
            tool.parts -= 1;
        }
    }

    /// Whether this call shows the file for the first time, and remembers it. Only [`MAX_SHOWN`] files are shown.
    pub(super) fn is_news(&mut self, id: &str, mark: &str) -> bool {
        let Some(tool) = self.0.get_mut(id) else { return false };
        let news = tool.shown.len() < MAX_SHOWN && !tool.shown.iter().any(|m| m == mark);
        if news {
            tool.shown.push(mark.to_owned());
        }
        news
    }

    /// What a call does, for a permission request about it.
    pub(super) fn title(&self, call: &acp::ToolCall) -> String {
        let known = || self.0.get(&call.tool_call_id).map(|t| t.title.clone());
        call.title.clone().or_else(known).unwrap_or_default()
    }
}

impl Tool {
    fn is_done(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed")
    }

    fn apply(&mut self, news: &acp::ToolCall, workspace: &str) {
        let set = |field: &mut String, value: &Option<String>, max| {
            if let Some(value) = value {
                *field = head(value, max).0.to_owned();
            }
        };
        set(&mut self.title, &news.title, 300);
        set(&mut self.kind, &news.kind, 20);
        set(&mut self.status, &news.status, 20);
        if let Some(locations) = &news.locations {
            let relative = |path: &str| {
                let path = path.strip_prefix(workspace).map_or(path, |p| p.trim_start_matches('/'));
                head(path, 200).0.to_owned()
            };
            self.locations = locations.iter().take(5).map(|l| relative(&l.path)).collect();
        }
        if let Some(input) = &news.raw_input {
            let text = input.as_str().map_or_else(|| input.to_string(), str::to_owned);
            let (kept, cut) = head(&text, MAX_INPUT);
            self.input = kept.to_owned();
            self.truncated |= cut;
        }
        let printed = news.terminal_output().map(|more| format!("{}{more}", self.output));
        let output = printed.or_else(|| news.content.as_deref().map(words_of).filter(|w| !w.is_empty()));
        self.in_terminal |= news.terminal_output().is_some();
        // Terminal output that was shown already is worth more than the exit code at its end.
        let said = self.in_terminal;
        // Beside a picture the raw output is the same picture as text.
        let files = news
            .content
            .iter()
            .flatten()
            .any(|c| matches!(c, ToolContent::Content { content: acp::Content::Other(_) }));
        let raw = || news.raw_output.as_ref().filter(|v| !(v.is_null() || files || said && v.is_object()));
        let output =
            output.or_else(|| raw().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)));
        if let Some(text) = output {
            let (kept, cut) = tail(&text, MAX_OUTPUT);
            self.output = kept.to_owned();
            self.truncated |= cut;
        }
    }

    fn to_proto(&self, id: &str) -> ToolCall {
        let state = match self.status.as_str() {
            "in_progress" => ToolCallState::InProgress,
            "completed" => ToolCallState::Completed,
            "failed" => ToolCallState::Failed,
            _ => ToolCallState::Pending,
        };
        ToolCall {
            tool_call_id: id.to_owned(),
            title: self.title.clone(),
            kind: self.kind.clone(),
            state: state.into(),
            locations: self.locations.clone(),
            input: self.input.clone(),
            output: self.output.clone(),
            truncated: self.truncated,
        }
    }
}

fn words_of(content: &[ToolContent]) -> String {
    let mut words = String::new();
    for part in content {
        let text = match part {
            ToolContent::Content { content } => content.text().to_owned(),
            ToolContent::Diff { path, new_text, .. } => format!("{path}:\n{new_text}"),
            ToolContent::Other(_) => continue,
        };
        if !words.is_empty() && !text.is_empty() {
            words.push('\n');
        }
        words.push_str(&text);
    }
    words
}
