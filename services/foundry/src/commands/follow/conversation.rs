//! A session's conversation, live.

use std::process::ExitCode;

use foundry_proto::common::v1::TranscriptPart;
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::task::v1::{Session, SessionItem, SessionState, TranscriptEntry, session_item::Item};
use foundry_watch::{Event, Op};

use super::words::Words;
use crate::cli::Output;
use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

/// The event at which following ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// When the session is closed.
    Closed,
    /// When the turn of this message has ended.
    TurnEnd(String),
    /// When any turn has ended.
    FirstTurn,
}

/// Prints the conversation after an offset until the end or Ctrl-C.
///
/// # Errors
/// When the watch is refused, or the session has failed (exit code 6).
pub async fn conversation(
    gateway: &Gateway,
    output: Output,
    session_id: &str,
    after: i64,
    until: Until,
) -> Result<ExitCode, Failure> {
    let goes_on = format!("the session continues; reattach with `foundry session watch {session_id}`");
    let follow = async { follow(gateway, output, session_id, after, until).await.map(|(code, _)| code) };
    super::until_interrupted(&goes_on, follow).await
}

/// As [`conversation`], without handling Ctrl-C; also returns the end of the turn that it waited for.
pub async fn follow(
    gateway: &Gateway,
    output: Output,
    session_id: &str,
    after: i64,
    until: Until,
) -> Result<(ExitCode, Option<TranscriptPart>), Failure> {
    let tasks = super::tasks();
    let mut watch = super::watch_session(gateway, &tasks, session_id, after);
    let mut shown = Shown { last: after, until, words: Words::default(), output };
    loop {
        let event = watch.next().await?;
        super::tell_connection(&event);
        let (Event::Snapshot { rows: changes, .. } | Event::Delta { changes, .. }) = event else { continue };
        let (mut entries, mut session) = (Vec::new(), None);
        for change in changes {
            match change.op {
                Op::Upsert(SessionItem { item: Some(Item::Entry(entry)) }) => entries.push(entry),
                Op::Upsert(SessionItem { item: Some(Item::Session(s)) }) => session = Some(s),
                _ => {}
            }
        }
        entries.sort_by_key(|e| e.offset);
        if let Some(end) = shown.show(&entries, session.as_ref())? {
            return Ok(end);
        }
    }
}

/// What has been printed, and when to end.
struct Shown {
    last: i64,
    until: Until,
    words: Words,
    output: Output,
}

impl Shown {
    fn show(
        &mut self,
        entries: &[TranscriptEntry],
        session: Option<&Session>,
    ) -> Result<Option<(ExitCode, Option<TranscriptPart>)>, Failure> {
        let mut ended = None;
        for entry in entries {
            if entry.offset <= self.last {
                continue;
            }
            self.last = entry.offset;
            let Some(part) = &entry.part else { continue };
            match self.output {
                Output::Json => output::one(Output::Json, entry, |_| ())?,
                Output::Table => self.words.part(part),
            }
            if self.is_end(part) {
                ended = Some(part.clone());
            }
        }
        if let Some(end) = ended {
            self.words.close();
            return Ok(Some((super::creation::exit_code(&end), Some(end))));
        }
        let Some(session) = session else { return Ok(None) };
        if self.until != Until::Closed && session.queue_held && session.queue_length > 0 {
            self.words.close();
            return Err(Failure::new("the queue is paused after a stop, an error or an interruption")
                .next("send another message to resume it")
                .exit(6));
        }
        match session.state() {
            SessionState::Closed => {
                self.words.line("the session is closed");
                Ok(Some((ExitCode::SUCCESS, None)))
            }
            SessionState::Error if self.until != Until::Closed => {
                let condition = session.condition.clone().unwrap_or_default();
                self.words.close();
                Err(Failure::new(format!("{} ({})", condition.message, condition.reason))
                    .next(condition.next_action)
                    .exit(6))
            }
            _ => Ok(None),
        }
    }

    fn is_end(&self, part: &TranscriptPart) -> bool {
        let wanted = match &self.until {
            Until::Closed => false,
            Until::FirstTurn => true,
            Until::TurnEnd(message) => *message == part.message_id,
        };
        wanted && matches!(part.body, Some(Body::TurnEnd(_)))
    }
}
