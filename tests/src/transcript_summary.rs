//! What a transcript tells, without ids and without how its pieces were cut: two runs of one prompt tell the same.

use std::collections::BTreeMap;

use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{NoticeKind, ToolCallState, TurnOutcome};
use foundry_proto::task::v1::TranscriptEntry;

use crate::story::assert_contiguous;

/// What a transcript tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TranscriptSummary {
    /// What people said, by message.
    pub spoken: Vec<String>,
    /// All words of the agent.
    pub words: String,
    /// All thoughts of the agent.
    pub thoughts: String,
    /// Title and last state of each tool call, in order of the calls.
    pub tools: Vec<(String, i32)>,
    /// How the turns ended.
    pub ends: Vec<TurnOutcome>,
    /// What the mesh had to say.
    pub notices: Vec<NoticeKind>,
}

impl TranscriptSummary {
    /// Reads a transcript, which must be without a hole and without a doubled entry.
    ///
    /// # Panics
    /// When it is not.
    pub fn of(entries: &[TranscriptEntry]) -> Self {
        assert_contiguous(entries);
        Self::of_parts(entries.iter())
    }

    /// What one turn of a transcript tells.
    ///
    /// # Panics
    /// When the transcript has a hole or a doubled entry.
    pub fn of_turn(entries: &[TranscriptEntry], message_id: &str) -> Self {
        assert_contiguous(entries);
        let of = |e: &&TranscriptEntry| e.part.as_ref().is_some_and(|p| p.message_id == message_id);
        Self::of_parts(entries.iter().filter(of))
    }

    fn of_parts<'a>(entries: impl Iterator<Item = &'a TranscriptEntry>) -> Self {
        let mut told = Self::default();
        let mut spoken: Vec<(String, String)> = Vec::new();
        let mut tools: Vec<(String, String, i32)> = Vec::new();
        for part in entries.filter_map(|e| e.part.as_ref()) {
            match &part.body {
                Some(Body::UserMessage(m)) => match spoken.last_mut() {
                    Some((id, text)) if *id == part.message_id && part.part_number > 0 => *text += &m.text,
                    _ => spoken.push((part.message_id.clone(), m.text.clone())),
                },
                Some(Body::AgentMessage(m)) => told.words += &m.text,
                Some(Body::AgentThought(t)) => told.thoughts += &t.text,
                Some(Body::ToolCall(call)) => {
                    let id = format!("{}/{}", part.message_id, call.tool_call_id);
                    match tools.iter_mut().find(|(known, ..)| *known == id) {
                        Some(known) => (known.1, known.2) = (call.title.clone(), call.state),
                        None => tools.push((id, call.title.clone(), call.state)),
                    }
                }
                Some(Body::TurnEnd(end)) => told.ends.push(end.outcome()),
                Some(Body::Notice(notice)) => told.notices.push(notice.kind()),
                _ => {}
            }
        }
        told.spoken = spoken.into_iter().map(|(_, text)| text).collect();
        told.tools = tools.into_iter().map(|(_, title, state)| (title, state)).collect();
        told
    }

    /// How often each message stands in the transcript; more than once would be a second prompt.
    pub fn times_spoken(entries: &[TranscriptEntry]) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for part in entries.iter().filter_map(|e| e.part.as_ref()) {
            if matches!(part.body, Some(Body::UserMessage(_))) && part.part_number == 0 {
                *times.entry(part.message_id.clone()).or_default() += 1;
            }
        }
        times
    }

    /// Titles of the tool calls, whatever became of them.
    pub fn tools_begun(entries: &[TranscriptEntry]) -> Vec<String> {
        Self::of_parts(entries.iter()).tools.into_iter().map(|(title, _)| title).collect()
    }

    /// Titles of the tool calls that are in progress.
    pub fn tools_running(entries: &[TranscriptEntry]) -> Vec<String> {
        let running = i32::from(ToolCallState::InProgress);
        let tools = Self::of_parts(entries.iter()).tools;
        tools.into_iter().filter(|(_, state)| *state == running).map(|(title, _)| title).collect()
    }
}
