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

/// When following ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// When the session is closed.
    Closed,
    /// When the turn of this message has ended.
    TurnEnd(String),
}

/// Prints the conversation after an offset until the end or Ctrl-C.
///
/// # Errors
/// When the watch cannot go on, or the session failed (exit code 6).
pub async fn conversation(
    gateway: &Gateway,
    output: Output,
    session_id: &str,
    after: i64,
    until: Until,
) -> Result<ExitCode, Failure> {
    let goes_on = format!("the session goes on; come back with `foundry session watch {session_id}`");
    super::until_interrupted(&goes_on, follow(gateway, output, session_id, after, until)).await
}

async fn follow(
    gateway: &Gateway,
    output: Output,
    session_id: &str,
    after: i64,
    until: Until,
) -> Result<ExitCode, Failure> {
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
        if let Some(code) = shown.show(&entries, session.as_ref())? {
            return Ok(code);
        }
    }
}

/// What was printed so far, and when to end.
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
    ) -> Result<Option<ExitCode>, Failure> {
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
                ended = Some(super::creation::exit_code(part));
            }
        }
        if let Some(code) = ended {
            self.words.close();
            return Ok(Some(code));
        }
        match session.map(Session::state) {
            Some(SessionState::Closed) => {
                self.words.line("the session is closed");
                Ok(Some(ExitCode::SUCCESS))
            }
            Some(SessionState::Error) if self.until != Until::Closed => {
                let condition = session.and_then(|s| s.condition.clone()).unwrap_or_default();
                self.words.close();
                Err(Failure::new(format!("{} ({})", condition.message, condition.reason))
                    .next(condition.next_action)
                    .exit(6))
            }
            _ => Ok(None),
        }
    }

    fn is_end(&self, part: &TranscriptPart) -> bool {
        matches!(&self.until, Until::TurnEnd(message) if *message == part.message_id)
            && matches!(part.body, Some(Body::TurnEnd(_)))
    }
}
