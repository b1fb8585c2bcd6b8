//! The earlier messages, which a restarted agent gets in its prompt when it could not load its conversation.

use foundry_core::{Error, MessageId};
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{NoticeKind, TranscriptPart};
use foundry_store::Store;

use crate::domain::{Session, Turn, tail};
use crate::store::{events, turns};

/// Most bytes of the conversation that are repeated, from its end.
const MAX_REPEATED: usize = 64 * 1024;

/// The prompt of a turn, preceded by the conversation so far when the agent does not remember it.
pub async fn prompt(store: &Store, session: &Session, turn: &Turn) -> Result<String, Error> {
    if session.generation <= 1 {
        return Ok(turn.prompt.clone());
    }
    let said = events::newest(store, &session.session_id).await?;
    if !forgot(&said) {
        return Ok(turn.prompt.clone());
    }
    let turns = turns::all(store, &session.session_id).await?;
    Ok(with_history(&turns, &said, &turn.message_id, &turn.prompt))
}

/// Whether the agent lost its memory and has not answered in a turn since, so that no earlier prompt repeated it
/// either.
fn forgot(said: &[TranscriptPart]) -> bool {
    for part in said.iter().rev() {
        match &part.body {
            Some(Body::Notice(notice)) if notice.kind() == NoticeKind::ContextRebuilt => return true,
            // Some agents send a message about their settings before the first prompt.
            Some(Body::AgentMessage(_)) if !part.message_id.is_empty() => return false,
            _ => {}
        }
    }
    false
}

fn with_history(turns: &[Turn], said: &[TranscriptPart], now: &MessageId, prompt: &str) -> String {
    let mut before = String::new();
    for turn in turns.iter().filter(|turn| turn.message_id != *now && !turn.prompt.is_empty()) {
        before += &format!("\nUser: {}\n", turn.prompt);
        let words = said.iter().filter(|part| part.message_id == turn.message_id.as_str());
        let words: String = words
            .filter_map(|part| {
                if let Some(Body::AgentMessage(m)) = &part.body { Some(m.text.as_str()) } else { None }
            })
            .collect();
        if !words.is_empty() {
            before += &format!("\nYou: {words}\n");
        }
    }
    if before.is_empty() {
        return prompt.to_owned();
    }
    let (before, _) = tail(&before, MAX_REPEATED);
    format!(
        "You were restarted in the middle of a conversation. The conversation so far:\n{before}\n\
         End of the conversation so far. The user's new message:\n\n{prompt}"
    )
}

#[cfg(test)]
mod tests {
    use foundry_core::SessionId;
    use foundry_proto::common::v1::{AgentMessage, Notice};

    use super::*;
    use crate::domain::TurnState;

    fn part(message: &str, body: Body) -> TranscriptPart {
        TranscriptPart { message_id: message.to_owned(), body: Some(body), ..TranscriptPart::default() }
    }

    fn words(message: &str, text: &str) -> TranscriptPart {
        part(message, Body::AgentMessage(AgentMessage { text: text.to_owned() }))
    }

    fn lost() -> TranscriptPart {
        let notice = Notice { kind: NoticeKind::ContextRebuilt.into(), message: String::new() };
        part("", Body::Notice(notice))
    }

    fn turn(env: &foundry_core::Env, prompt: &str) -> Turn {
        Turn {
            session_id: SessionId::generate(env),
            message_id: MessageId::generate(env),
            prompt: prompt.to_owned(),
            state: TurnState::Ended,
            cancel_requested: false,
            flow_id: String::new(),
            attachments: Vec::new(),
        }
    }

    #[test]
    fn the_first_words_after_a_loss_are_told_with_what_was_before() {
        let env = foundry_core::Env::system();
        let turns = [turn(&env, "count"), turn(&env, "go on")];
        let first = turns[0].message_id.as_str();
        let said = [words(first, "one, "), words(first, "two"), lost()];
        assert!(forgot(&said));
        let prompt = with_history(&turns, &said, &turns[1].message_id, "go on");
        assert!(
            prompt.contains("User: count\n\nYou: one, two\n") && prompt.ends_with("\n\ngo on"),
            "{prompt}"
        );
        assert_eq!(prompt.matches("go on").count(), 1, "{prompt}");
    }

    #[test]
    fn words_outside_a_turn_do_not_say_that_the_agent_was_told() {
        assert!(forgot(&[words("a", "one"), lost(), words("", "the mode is another")]));
    }

    #[test]
    fn an_agent_that_lost_nothing_or_was_told_is_not_told_again() {
        assert!(!forgot(&[words("a", "one")]));
        assert!(!forgot(&[words("a", "one"), lost(), words("b", "two")]));
        let env = foundry_core::Env::system();
        let only = [turn(&env, "count")];
        assert_eq!(with_history(&only, &[lost()], &only[0].message_id, "count"), "count");
    }
}
