//! A conversation as text for a terminal: streamed text continues on its line, everything else has a line of its own.

use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{Attachment, ToolCall, ToolCallState, TranscriptPart, TurnEnd, TurnOutcome};

use crate::commands::session::describe;
use crate::output;

/// Prints transcript parts in order.
#[derive(Default)]
pub struct Words {
    /// The block whose text is being streamed, while its line is still open.
    open: Option<String>,
    /// State and title last printed of each tool call.
    calls: std::collections::HashMap<String, (ToolCallState, String)>,
    /// The plan last printed.
    plan: String,
}

/// Why a turn did not complete, after a blank; empty when it did, or nothing is said.
fn why(end: &TurnEnd) -> String {
    if end.outcome() == TurnOutcome::Completed {
        return String::new();
    }
    let said = [end.reason.as_str(), &output::inert(&end.message)];
    said.iter().filter(|text| !text.is_empty()).map(|text| format!(" {text}")).collect()
}

/// Name, type and size of a file, and the id to get it by, or why it is not stored.
fn named(file: &Attachment) -> String {
    let what =
        format!("{} ({}, {} bytes)", output::inert(&file.name), output::inert(&file.media_type), file.size);
    match (file.attachment_id.as_str(), file.reason.as_str()) {
        ("", reason) => format!("{what}, not stored: {reason}"),
        (id, _) => format!("{what} {id}"),
    }
}

impl Words {
    /// Prints one part of the transcript.
    pub fn part(&mut self, part: &TranscriptPart) {
        let Some(body) = &part.body else { return };
        match body {
            Body::AgentMessage(m) => self.stream(&part.block_id, &output::inert(&m.text)),
            Body::AgentThought(t) => {
                self.stream(&format!("thought {}", part.block_id), &output::dim(&output::inert(&t.text)))
            }
            Body::UserMessage(m) => {
                self.stream(&format!("user {}", part.message_id), &format!("> {}", output::inert(&m.text)));
                for file in &m.attachments {
                    self.line(&output::dim(&format!("  with {}", named(file))));
                }
            }
            Body::AgentFile(shown) => {
                let file = shown.attachment.clone().unwrap_or_default();
                self.line(&format!("+ file from the agent: {}", named(&file)));
            }
            Body::ToolCall(call) => self.tool_call(call),
            Body::Plan(plan) => {
                let text = plan
                    .entries
                    .iter()
                    .map(|e| {
                        let mark = match e.state.as_str() {
                            "completed" => "x",
                            "in_progress" => ">",
                            _ => " ",
                        };
                        format!("  [{mark}] {}", output::inert(&e.content))
                    })
                    .collect::<Vec<_>>()
                    .join("\n");
                if text != self.plan {
                    self.line(&format!("plan\n{text}"));
                    self.plan = text;
                }
            }
            Body::PermissionRequest(request) => {
                self.line(&format!("? the agent asks: {}", output::inert(&request.title)));
                for option in &request.options {
                    self.line(&format!("    {}: {}", option.option_id, output::inert(&option.name)));
                }
            }
            Body::PermissionAnswer(answer) => {
                let option = if answer.option_id.is_empty() { "cancelled" } else { &answer.option_id };
                let who = if answer.user_id.is_empty() { "the permission policy" } else { "a person" };
                self.line(&format!("  answered by {who}: {option}"));
            }
            Body::ElicitationRequest(form) => {
                self.line(&format!("? the agent asks: {}", output::inert(&form.message)));
                for field in &form.fields {
                    self.line(&format!("    {}", describe(field)));
                }
            }
            Body::ElicitationAnswer(answer) => {
                let what = output::state(answer.action().as_str_name(), "ELICITATION_ACTION_");
                self.line(&format!("  answered by a person: {what}"));
                for value in &answer.values {
                    let text = format!("    {} = {}", value.name, value.values.join(", "));
                    self.line(&output::inert(&text));
                }
            }
            Body::TurnEnd(end) => self.end("turn", end),
            Body::Notice(notice) => self.line(&format!("! {}", output::inert(&notice.message))),
        }
    }

    /// Prints the end of a turn, which is called `turn`.
    pub fn end(&mut self, turn: &str, end: &TurnEnd) {
        let outcome = output::state(end.outcome().as_str_name(), "TURN_OUTCOME_");
        self.line(&output::dim(&format!("-- {turn} {outcome}{}", why(end))));
    }

    fn tool_call(&mut self, call: &ToolCall) {
        let state = call.state();
        let shown = (state, call.title.clone());
        if self.calls.get(&call.tool_call_id) == Some(&shown) {
            return;
        }
        self.calls.insert(call.tool_call_id.clone(), shown);
        let mark = match state {
            ToolCallState::Completed => "done",
            ToolCallState::Failed => "failed",
            ToolCallState::InProgress => "running",
            _ => "pending",
        };
        self.line(&format!("* {mark:7} {}", output::inert(&call.title)));
        if matches!(state, ToolCallState::Completed | ToolCallState::Failed) {
            for line in call.output.lines().take(12) {
                self.line(&output::dim(&format!("  | {}", output::inert(line))));
            }
        }
    }

    fn stream(&mut self, block: &str, text: &str) {
        if self.open.as_deref() != Some(block) {
            self.close();
            self.open = Some(block.to_owned());
        }
        output::part(text);
    }

    /// Prints a line of its own.
    pub fn line(&mut self, text: &str) {
        self.close();
        output::line(text);
    }

    /// Ends the line of streamed words.
    pub fn close(&mut self) {
        if self.open.take().is_some() {
            output::line("");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_turn_says_why_without_a_trailing_blank() {
        let end = |reason: &str, message: &str| TurnEnd {
            outcome: TurnOutcome::Cancelled.into(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..TurnEnd::default()
        };
        assert_eq!(why(&end("", "")), "");
        assert_eq!(why(&end("SANDBOX_DESTROYED", "it is gone")), " SANDBOX_DESTROYED it is gone");
        assert_eq!(why(&end("", "it is gone")), " it is gone");
    }
}
