//! The content of a transcript without ids and chunk boundaries: two runs of one prompt have equal summaries.

use std::collections::BTreeMap;

use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{NoticeKind, ToolCallState, TurnOutcome};
use foundry_proto::task::v1::TranscriptEntry;

use crate::story::assert_contiguous;

/// The content of a transcript, comparable between runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TranscriptSummary {
    /// The texts of people's messages.
    pub spoken: Vec<String>,
    /// All words of the agent, joined.
    pub words: String,
    /// All thoughts of the agent, joined.
    pub thoughts: String,
    /// Title and last state of each tool call, in order of the calls.
    pub tools: Vec<(String, i32)>,
    /// The outcomes of the turns, in order.
    pub ends: Vec<TurnOutcome>,
    /// The kinds of the mesh's notices, in order.
    pub notices: Vec<NoticeKind>,
}

impl TranscriptSummary {
    /// Summarizes a transcript, which must have no missing or duplicate entry.
    ///
    /// # Panics
    /// When it has one.
    pub fn of(entries: &[TranscriptEntry]) -> Self {
        assert_contiguous(entries);
        Self::of_parts(entries.iter())
    }

    /// Summarizes one turn of a transcript.
    ///
    /// # Panics
    /// When the transcript has a missing or duplicate entry.
    pub fn of_turn(entries: &[TranscriptEntry], message_id: &str) -> Self {
        assert_contiguous(entries);
        let of = |e: &&TranscriptEntry| e.part.as_ref().is_some_and(|p| p.message_id == message_id);
        Self::of_parts(entries.iter().filter(of))
    }

    fn of_parts<'a>(entries: impl Iterator<Item = &'a TranscriptEntry>) -> Self {
        let mut summary = Self::default();
        let mut spoken: Vec<(String, String)> = Vec::new();
        let mut tools: Vec<(String, String, i32)> = Vec::new();
        for part in entries.filter_map(|e| e.part.as_ref()) {
            match &part.body {
                Some(Body::UserMessage(m)) => match spoken.last_mut() {
                    Some((id, text)) if *id == part.message_id && part.part_number > 0 => *text += &m.text,
                    _ => spoken.push((part.message_id.clone(), m.text.clone())),
                },
                Some(Body::AgentMessage(m)) => summary.words += &m.text,
                Some(Body::AgentThought(t)) => summary.thoughts += &t.text,
                Some(Body::ToolCall(call)) => {
                    let id = format!("{}/{}", part.message_id, call.tool_call_id);
                    match tools.iter_mut().find(|(known, ..)| *known == id) {
                        Some(known) => (known.1, known.2) = (call.title.clone(), call.state),
                        None => tools.push((id, call.title.clone(), call.state)),
                    }
                }
                Some(Body::TurnEnd(end)) => summary.ends.push(end.outcome()),
                Some(Body::Notice(notice)) => summary.notices.push(notice.kind()),
                _ => {}
            }
        }
        summary.spoken = spoken.into_iter().map(|(_, text)| text).collect();
        summary.tools = tools.into_iter().map(|(_, title, state)| (title, state)).collect();
        summary
    }

    /// How often each message appears in the transcript; more than once means that it was prompted again.
    pub fn times_spoken(entries: &[TranscriptEntry]) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for part in entries.iter().filter_map(|e| e.part.as_ref()) {
            if matches!(part.body, Some(Body::UserMessage(_))) && part.part_number == 0 {
                *times.entry(part.message_id.clone()).or_default() += 1;
            }
        }
        times
    }

    /// Titles of all tool calls, in any state.
    pub fn tools_begun(entries: &[TranscriptEntry]) -> Vec<String> {
        Self::of_parts(entries.iter()).tools.into_iter().map(|(title, _)| title).collect()
    }

    /// Titles of the tool calls in progress.
    pub fn tools_running(entries: &[TranscriptEntry]) -> Vec<String> {
        let running = i32::from(ToolCallState::InProgress);
        let tools = Self::of_parts(entries.iter()).tools;
        tools.into_iter().filter(|(_, state)| *state == running).map(|(title, _)| title).collect()
    }
}
