//! The limits of stored agent output: what is left out beyond them, and how that is shown.

use foundry_proto::common::v1::{Condition, TranscriptPart, transcript_part::Body};
use foundry_sandbox::limits::bytes;
use prost::Message as _;

use super::fold::Folded;

/// A limit of stored agent output that is reached, with its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputLimit {
    /// The sessions of the task have stored this much.
    Task(u64),
    /// The sessions of the organization's tasks have stored this much.
    Organization(u64),
}

impl OutputLimit {
    /// The limit that is reached, that of the task first. `stored` and `limits`: bytes of the task and of its
    /// organization; a limit of 0 is none.
    pub fn reached(stored: (u64, u64), limits: (u64, u64)) -> Option<Self> {
        let full = |stored: u64, limit: u64| limit > 0 && stored >= limit;
        if full(stored.0, limits.0) {
            return Some(Self::Task(limits.0));
        }
        full(stored.1, limits.1).then_some(Self::Organization(limits.1))
    }

    /// Whether a condition reports one of them.
    pub fn is_shown_by(condition: &Condition) -> bool {
        [Self::Task(0), Self::Organization(0)].iter().any(|limit| limit.reason() == condition.reason)
    }

    /// The reason of the condition.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Task(_) => "TASK_OUTPUT_LIMIT",
            Self::Organization(_) => "ORGANIZATION_OUTPUT_LIMIT",
        }
    }

    fn cause(self) -> String {
        match self {
            Self::Task(limit) => format!("the task has reached its limit of {}", bytes(limit)),
            Self::Organization(limit) => {
                format!("the tasks of the organization have reached their limit of {}", bytes(limit))
            }
        }
    }

    /// The notice where the transcript stops; once in a turn.
    pub fn notice(self) -> String {
        format!(
            "agent output is no longer stored: {}; the turn continues, and its changes are kept",
            self.cause()
        )
    }

    /// The condition of a session of which this many bytes were left out.
    pub fn condition(self, left_out: i64) -> Condition {
        let (help, setting) = match self {
            Self::Task(_) => ("continue in a new task", "task_bytes"),
            Self::Organization(_) => ("kill or archive tasks that are finished", "organization_bytes"),
        };
        let left_out = bytes(u64::try_from(left_out).unwrap_or_default());
        Condition {
            reason: self.reason().to_owned(),
            message: format!("{left_out} of agent output was not stored: {}", self.cause()),
            next_action: format!("{help}, or raise provisioner.output.{setting}"),
            ..Condition::default()
        }
    }
}

/// Whether a part is stored beyond the limits, too: without it, nobody could follow or answer the turn. None of them
/// comes unless a person, this service or a question of the agent that waits for its answer made it.
fn is_needed(part: &TranscriptPart) -> bool {
    matches!(
        part.body,
        Some(
            Body::UserMessage(_)
                | Body::PermissionRequest(_)
                | Body::PermissionAnswer(_)
                | Body::ElicitationRequest(_)
                | Body::ElicitationAnswer(_)
                | Body::TurnEnd(_)
        )
    )
}

/// Leaves out of a folded stretch what the agent says and does, and returns its encoded bytes. The notice, if there is
/// one, takes its place.
pub fn leave_out(folded: &mut Folded, mut notice: Option<TranscriptPart>) -> i64 {
    let mut left_out = 0;
    let mut kept = Vec::new();
    // Where each part is now; none = left out.
    let mut places = Vec::new();
    for part in std::mem::take(&mut folded.parts) {
        if is_needed(&part) {
            places.push(Some(kept.len()));
            kept.push(part);
        } else {
            places.push(None);
            left_out += part.encoded_len();
            kept.extend(notice.take());
        }
    }
    folded.parts = kept;
    let place = |part: usize| places.get(part).copied().flatten();
    for asked in &mut folded.asked {
        asked.part = place(asked.part).unwrap_or_default();
    }
    for elicited in &mut folded.elicited {
        elicited.part = place(elicited.part).unwrap_or_default();
    }
    folded.files.retain_mut(|file| match place(file.part) {
        Some(part) => {
            file.part = part;
            true
        }
        None => false,
    });
    i64::try_from(left_out).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::{AgentMessage, PermissionRequest, TurnEnd};
    use serde_json::json;

    use super::*;
    use crate::domain::fold::{Asked, ShownFile};

    fn part(body: Body) -> TranscriptPart {
        TranscriptPart { body: Some(body), ..TranscriptPart::default() }
    }

    fn words() -> TranscriptPart {
        part(Body::AgentMessage(AgentMessage { text: "words".into() }))
    }

    #[test]
    fn a_limit_is_reached_when_it_is_full_and_that_of_the_task_comes_first() {
        let reached = |task, organization| OutputLimit::reached((task, organization), (10, 100));
        assert_eq!(reached(9, 99), None);
        assert_eq!(reached(10, 100), Some(OutputLimit::Task(10)));
        assert_eq!(reached(9, 100), Some(OutputLimit::Organization(100)));
        assert_eq!(OutputLimit::reached((u64::MAX, u64::MAX), (0, 0)), None);
    }

    #[test]
    fn what_a_person_needs_stays_where_its_question_finds_it_and_the_rest_is_counted() {
        let request = PermissionRequest { permission_id: "p".into(), ..PermissionRequest::default() };
        let asks = part(Body::PermissionRequest(request.clone()));
        let end = part(Body::TurnEnd(TurnEnd::default()));
        let mut folded = Folded {
            parts: vec![words(), words(), asks.clone(), words(), end.clone()],
            asked: vec![Asked { acp_id: json!(1), request, part: 2 }],
            files: vec![ShownFile { part: 3, place: String::new(), bytes: bytes::Bytes::new() }],
            ..Folded::default()
        };
        let notice = part(Body::Notice(foundry_proto::common::v1::Notice::default()));
        let left_out = leave_out(&mut folded, Some(notice.clone()));
        assert_eq!(left_out, 3 * i64::try_from(words().encoded_len()).unwrap());
        assert_eq!(folded.parts, [notice, asks, end]);
        assert_eq!((folded.asked[0].part, folded.files.len()), (1, 0));

        let mut quiet = Folded { parts: folded.parts[1..].to_vec(), ..Folded::default() };
        let before = quiet.parts.clone();
        assert_eq!(leave_out(&mut quiet, Some(words())), 0);
        assert_eq!(quiet.parts, before, "without anything left out there is no notice");
    }
}
