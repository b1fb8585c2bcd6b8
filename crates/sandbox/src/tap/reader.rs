//! The reading side of a tap log, on the host. The file belongs to the agent's user: nothing in it is
//! trusted, no link to it is followed, every size is bounded, and what makes no sense is a visible
//! [`TapBody::Lost`], never an error that stops the reading.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use foundry_core::{Env, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::{Direction, Entry, Record};
use super::{DIRECTORY, MAX_LINE, MAX_LOG};
use crate::beneath::open_file;
use crate::client::Wakeups;
use crate::{AcpId, ProviderError};

/// How far a log was read; stored by the reader, valid for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapCursor {
    /// Byte offset of the next line.
    pub offset: u64,
    /// The runtime instance of the lines there.
    pub instance: String,
    /// Inside a line that is too long and already reported.
    pub skipping: bool,
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct TapEvent {
    /// The runtime instance it belongs to.
    pub instance: String,
    /// Byte offset of its line: unique and increasing within the log.
    pub offset: u64,
    /// When it was written, by the sandbox's clock; zero for a line that could not be read.
    pub time: Timestamp,
    /// What happened.
    pub body: TapBody,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum TapBody {
    /// An agent process started; turns that were open are cut.
    Started {
        /// The agent.
        agent: String,
    },
    /// A JSON-RPC message; see [`crate::acp::AcpEvent::parse`].
    Message {
        /// Which way it went.
        direction: Direction,
        /// The message.
        json: Value,
    },
    /// A message of ours that was not passed on.
    Refused {
        /// Its id.
        id: Value,
        /// Its method; empty for an answer.
        method: String,
        /// Why.
        reason: String,
    },
    /// A hole: messages were said that nobody can read any more.
    Lost {
        /// Why.
        reason: String,
        /// How many messages, as far as is known; 0 = unknown.
        messages: u64,
    },
    /// The agent process ended.
    Exited {
        /// Exit code, if it exited.
        code: Option<i32>,
        /// Signal, if it was killed.
        signal: Option<i32>,
    },
}

/// A stretch of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TapBatch {
    /// The events, in order.
    pub events: Vec<TapEvent>,
    /// Where to go on; to be stored together with what was made of the events.
    pub next: TapCursor,
    /// Whether there was more to read at once.
    pub more: bool,
}

/// Why a log cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum TapReadError {
    /// It is shorter than what was read before: somebody inside cut it. Everything after the cursor is lost.
    #[error("the tap log was cut from {expected} to {found} bytes")]
    Truncated {
        /// The cursor.
        expected: u64,
        /// The size.
        found: u64,
    },
    /// It is a link, a directory or the like: somebody inside replaced it.
    #[error("the tap log cannot be opened: {0}")]
    Refused(io::Error),
    /// Reading failed.
    #[error("the tap log cannot be read: {0}")]
    Io(io::Error),
}

impl From<TapReadError> for ProviderError {
    fn from(e: TapReadError) -> Self {
        let reason = match &e {
            TapReadError::Truncated { .. } => "TAP_LOG_TRUNCATED",
            TapReadError::Refused(_) => "TAP_LOG_REFUSED",
            TapReadError::Io(_) => "TAP_LOG_IO",
        };
        Self::new(crate::Class::Provider, reason, e.to_string()).caused_by(e)
    }
}

/// Bytes read at once, unless one line is longer.
const CHUNK: usize = 256 << 10;

/// Reads the log of one agent session.
#[derive(Clone, Debug)]
pub struct TapReader {
    home: PathBuf,
    file: String,
}

impl TapReader {
    /// For the log of `acp` in the sandbox whose HOME this host sees at `home`.
    pub fn new(home: &Path, acp: &AcpId) -> Self {
        Self { home: home.to_owned(), file: format!("{acp}.log") }
    }

    /// The next events; none when there is nothing new or no log yet.
    ///
    /// # Errors
    /// When the file was cut or replaced, or cannot be read.
    pub async fn read(&self, cursor: &TapCursor) -> Result<TapBatch, TapReadError> {
        let (reader, cursor) = (self.clone(), cursor.clone());
        tokio::task::spawn_blocking(move || reader.read_now(&cursor))
            .await
            .unwrap_or_else(|e| Err(TapReadError::Io(io::Error::other(e))))
    }

    fn read_now(&self, cursor: &TapCursor) -> Result<TapBatch, TapReadError> {
        let parts = [DIRECTORY[0], DIRECTORY[1], self.file.as_str()];
        let mut file = match open_file(&self.home, &parts) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound && cursor.offset == 0 => {
                return Ok(TapBatch { next: cursor.clone(), ..TapBatch::default() });
            }
            Err(e) => return Err(TapReadError::Refused(e)),
        };
        let length = file.metadata().map_err(TapReadError::Io)?.len();
        if length < cursor.offset {
            return Err(TapReadError::Truncated { expected: cursor.offset, found: length });
        }
        // The tap stops at its own limit; beyond it somebody else writes.
        let length = length.min(MAX_LOG.max(cursor.offset));
        file.seek(SeekFrom::Start(cursor.offset)).map_err(TapReadError::Io)?;
        let mut bytes = Vec::new();
        let mut wanted = CHUNK;
        loop {
            let missing = (wanted - bytes.len()) as u64;
            let got = (&mut file).take(missing).read_to_end(&mut bytes).map_err(TapReadError::Io)?;
            let at_end = (got as u64) < missing || cursor.offset + bytes.len() as u64 >= length;
            if bytes.contains(&b'\n') || at_end || wanted > MAX_LINE {
                break;
            }
            wanted = (wanted * 2).min(MAX_LINE + 1);
        }
        Ok(parse(bytes, cursor, length))
    }

    /// The answer to one of our requests, wherever it is in the log; none when there is none (yet).
    ///
    /// # Errors
    /// As [`TapReader::read`].
    pub async fn answer_to(&self, id: &crate::RequestId) -> Result<Option<Value>, TapReadError> {
        let wanted = Value::String(id.0.clone());
        let mut cursor = TapCursor::default();
        loop {
            let batch = self.read(&cursor).await?;
            for event in batch.events {
                if let TapBody::Message { direction: Direction::FromAgent, json } = event.body
                    && json.get("method").is_none()
                    && json.get("id") == Some(&wanted)
                {
                    return Ok(Some(json));
                }
            }
            if !batch.more {
                return Ok(None);
            }
            cursor = batch.next;
        }
    }
}

fn parse(bytes: Vec<u8>, cursor: &TapCursor, length: u64) -> TapBatch {
    let mut next = cursor.clone();
    let mut events = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some(end) = rest.iter().position(|b| *b == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if std::mem::take(&mut next.skipping) {
            next.offset += end as u64 + 1;
            continue;
        }
        let (time, body) = read_line(line, next.offset, &mut next.instance);
        let event = TapEvent { instance: next.instance.clone(), offset: next.offset, time, body };
        if !joined(events.last(), &event) {
            events.push(event);
        }
        next.offset += end as u64 + 1;
    }
    if next.skipping {
        next.offset += rest.len() as u64;
    } else if rest.len() > MAX_LINE {
        let body = lost(format!("a line of more than {MAX_LINE} bytes"));
        events.push(TapEvent {
            instance: next.instance.clone(),
            offset: next.offset,
            time: Timestamp::default(),
            body,
        });
        next.offset += rest.len() as u64;
        next.skipping = true;
    }
    // An unfinished line at the end of the file is not "more": it is waited for.
    let more = next.offset > cursor.offset && cursor.offset + (bytes.len() as u64) < length;
    TapBatch { events, next, more }
}

fn lost(reason: String) -> TapBody {
    TapBody::Lost { reason, messages: 0 }
}

/// A run of unreadable lines is one hole: an agent that writes a million of them makes one event of them.
fn joined(last: Option<&TapEvent>, event: &TapEvent) -> bool {
    match (last.map(|e| &e.body), &event.body) {
        (Some(TapBody::Lost { reason: a, messages: 0 }), TapBody::Lost { reason: b, messages: 0 }) => a == b,
        _ => false,
    }
}

fn read_line(line: &[u8], offset: u64, instance: &mut String) -> (Timestamp, TapBody) {
    let record = match serde_json::from_slice::<Record>(line) {
        Ok(record) if record.offset == offset => record,
        Ok(_) => return (Timestamp::default(), lost("a line that is not where it says it is".to_owned())),
        Err(_) => return (Timestamp::default(), lost("a line that cannot be understood".to_owned())),
    };
    let body = match record.entry {
        Entry::Instance { runtime_instance, agent, .. } => {
            *instance = runtime_instance;
            TapBody::Started { agent }
        }
        Entry::Message { dir, msg } => TapBody::Message { direction: dir, json: msg },
        Entry::Refused { id, method, reason } => TapBody::Refused { id, method, reason },
        Entry::Lost { reason, messages, .. } => TapBody::Lost { reason, messages },
        Entry::Exit { code, signal } => TapBody::Exited { code, signal },
    };
    (Timestamp::from_micros(record.time), body)
}

/// Follows a log: waits for new events, woken by the runtime's event stream where there is one, and by a
/// coarse poll in any case.
pub struct TapFollower {
    reader: TapReader,
    cursor: TapCursor,
    wakeups: Option<Wakeups>,
    poll: Duration,
    env: Env,
}

impl TapFollower {
    /// Follows `reader` from `cursor` on. Without wake-ups, or when they are lost, `poll` bounds the delay.
    pub fn new(
        reader: TapReader,
        cursor: TapCursor,
        wakeups: Option<Wakeups>,
        poll: Duration,
        env: Env,
    ) -> Self {
        Self { reader, cursor, wakeups, poll, env }
    }

    /// The next events, at least one. Cancel-safe: what was not returned is returned by the next call.
    ///
    /// # Errors
    /// As [`TapReader::read`].
    pub async fn next(&mut self) -> Result<TapBatch, TapReadError> {
        loop {
            let batch = self.reader.read(&self.cursor).await?;
            let progress = batch.next != self.cursor;
            self.cursor = batch.next.clone();
            if !batch.events.is_empty() {
                return Ok(batch);
            }
            if !progress {
                match &mut self.wakeups {
                    Some(wakeups) => wakeups.next().await,
                    None => self.env.clock.sleep(self.poll).await,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join(".foundry/tap")).unwrap();
            Self { dir }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join(".foundry/tap/agt_1.log")
        }

        fn read_from(&self, cursor: &TapCursor) -> Result<TapBatch, TapReadError> {
            TapReader::new(self.dir.path(), &"agt_1".parse().unwrap()).read_now(cursor)
        }

        /// Reads to the end, as a follower would.
        fn read_all(&self) -> Vec<TapEvent> {
            let (mut cursor, mut all) = (TapCursor::default(), Vec::new());
            loop {
                let batch = self.read_from(&cursor).unwrap();
                all.extend(batch.events);
                if batch.next == cursor {
                    return all;
                }
                cursor = batch.next;
            }
        }
    }

    fn line(offset: usize, entry: &str) -> String {
        format!("{{\"offset\":{offset},\"time\":5,{entry}}}\n")
    }

    fn message(offset: usize, text: &str) -> String {
        line(offset, &format!(r#""kind":"message","dir":"from_agent","msg":"{text}""#))
    }

    #[test]
    fn reads_in_steps_what_it_reads_at_once() {
        let f = Fixture::new();
        assert_eq!(f.read_from(&TapCursor::default()).unwrap(), TapBatch::default());
        let start = line(0, r#""kind":"instance","runtime_instance":"run1","agent":"demo","pid":1"#);
        fs::write(f.path(), &start).unwrap();
        let first = f.read_from(&TapCursor::default()).unwrap();
        assert_eq!((first.next.instance.as_str(), first.next.offset), ("run1", start.len() as u64));
        let mut text = start.clone() + &message(start.len(), "a");
        let whole = text.len();
        text += "{\"offset\":1,\"unfinished";
        fs::write(f.path(), &text).unwrap();
        let second = f.read_from(&first.next).unwrap();
        assert_eq!((second.events.len(), second.next.offset, second.more), (1, whole as u64, false));
        assert_eq!(second.events[0].instance, "run1");
        let all = f.read_all();
        assert_eq!(all, [first.events, second.events].concat());
    }

    #[test]
    fn shows_a_hole_for_forged_torn_and_giant_lines_and_reads_on() {
        let f = Fixture::new();
        let mut text = String::from("garbage\nmore\n");
        text += &message(3, "not where it says");
        let giant = text.len();
        text += &"x".repeat(MAX_LINE + CHUNK * 3);
        text += "\n";
        let after = text.len();
        text += &message(after, "after");
        fs::write(f.path(), &text).unwrap();
        let events = f.read_all();
        let offsets: Vec<u64> = events.iter().map(|e| e.offset).collect();
        assert_eq!(offsets, [0, 13, giant as u64, after as u64]);
        assert!(events[..3].iter().all(|e| matches!(e.body, TapBody::Lost { .. })), "{events:?}");
        assert!(matches!(&events[3].body, TapBody::Message { json, .. } if json == "after"));
    }

    #[test]
    fn refuses_a_log_that_is_a_link_a_pipe_or_was_cut() {
        let f = Fixture::new();
        std::os::unix::fs::symlink("/etc/passwd", f.path()).unwrap();
        assert!(matches!(f.read_from(&TapCursor::default()), Err(TapReadError::Refused(_))));
        fs::remove_file(f.path()).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(f.path()).status().unwrap().success());
        assert!(matches!(f.read_from(&TapCursor::default()), Err(TapReadError::Refused(_))));
        fs::remove_file(f.path()).unwrap();
        fs::write(f.path(), message(0, "a")).unwrap();
        let cursor = TapCursor { offset: 1_000, ..TapCursor::default() };
        assert!(matches!(f.read_from(&cursor), Err(TapReadError::Truncated { expected: 1_000, .. })));
        fs::remove_file(f.path()).unwrap();
        assert!(matches!(f.read_from(&cursor), Err(TapReadError::Refused(_))), "removed after it was read");
    }
}
