//! The reading side of a tap log. The file belongs to the agent's user: nothing in it is trusted, no link to it is
//! followed, every size is bounded, and a malformed line is a visible [`TapBody::Lost`], never an error that stops the
//! reading.

use std::fmt;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use foundry_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::{Direction, Entry, Record};
use super::{DIRECTORY, MAX_LINE, MAX_LOG};
use crate::beneath::open_file;
use crate::{AcpId, LogStretch, ProviderError, Sandbox};

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
    /// The event itself.
    pub body: TapBody,
}

/// The kinds of events in a log.
#[derive(Clone, Debug, PartialEq)]
pub enum TapBody {
    /// An agent process started; turns that were open are cut.
    Started {
        /// The agent's name.
        agent: String,
    },
    /// A JSON-RPC message; see [`crate::acp::AcpEvent::parse`].
    Message {
        /// Which way the message went.
        direction: Direction,
        /// The whole JSON-RPC message, with secrets replaced.
        json: Value,
    },
    /// A message of ours that was not passed on.
    Refused {
        /// The JSON-RPC id of the refused message.
        id: Value,
        /// Its method; empty for an answer.
        method: String,
        /// Why it was not passed on.
        reason: String,
    },
    /// A gap: messages that are lost.
    Lost {
        /// Why they are lost.
        reason: String,
        /// How many messages, as far as is known; 0 = unknown.
        messages: u64,
        /// Their size in bytes, as far as is known; 0 = unknown.
        bytes: u64,
    },
    /// The agent process ended.
    Exited {
        /// Exit code, if it exited.
        code: Option<i32>,
        /// Signal, if it was killed.
        signal: Option<i32>,
    },
}

/// The result of one read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TapBatch {
    /// The events, in order.
    pub events: Vec<TapEvent>,
    /// Where to continue; to be stored together with what was made of the events.
    pub next: TapCursor,
    /// Whether there was more to read at once.
    pub more: bool,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TapReadError {
    /// It is shorter than what was read before: somebody inside cut it. Everything after the cursor is lost.
    #[error("the tap log was truncated from {expected} to {found} bytes")]
    Truncated {
        /// The offset of the cursor.
        expected: u64,
        /// The length of the file, in bytes.
        found: u64,
    },
    /// It is a link, a directory or the like: a program inside replaced it.
    #[error("the tap log cannot be opened: {0}")]
    Refused(io::Error),
    /// The file exists but cannot be read.
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

/// Reads the log of `acp` in the sandbox whose HOME is at `home`, for code with access to its files: the local provider
/// from outside, the runtime from inside.
///
/// # Errors
/// When the file was cut or replaced, or cannot be read.
pub fn read_file(home: &Path, acp: &AcpId, offset: u64) -> Result<LogStretch, TapReadError> {
    let file = format!("{acp}.log");
    let mut file = match open_file(home, &[DIRECTORY[0], DIRECTORY[1], file.as_str()]) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound && offset == 0 => return Ok(LogStretch::default()),
        Err(e) => return Err(TapReadError::Refused(e)),
    };
    let length = file.metadata().map_err(TapReadError::Io)?.len();
    if length < offset {
        return Err(TapReadError::Truncated { expected: offset, found: length });
    }
    // The runtime stops at its own limit; beyond it another program has written.
    let length = length.min(MAX_LOG.max(offset));
    file.seek(SeekFrom::Start(offset)).map_err(TapReadError::Io)?;
    let mut bytes = Vec::new();
    let mut wanted = CHUNK;
    loop {
        let missing = (wanted - bytes.len()) as u64;
        let got = (&mut file).take(missing).read_to_end(&mut bytes).map_err(TapReadError::Io)?;
        let at_end = (got as u64) < missing || offset + bytes.len() as u64 >= length;
        if bytes.contains(&b'\n') || at_end || wanted > MAX_LINE {
            return Ok(LogStretch { bytes, length });
        }
        wanted = (wanted * 2).min(MAX_LINE + 1);
    }
}

/// Reads the log of one conversation.
#[derive(Clone)]
pub struct TapReader {
    sandbox: Arc<dyn Sandbox>,
    acp: AcpId,
}

impl fmt::Debug for TapReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TapReader").field(&self.acp).finish()
    }
}

impl TapReader {
    /// A reader of the log of `acp` in this sandbox.
    pub fn new(sandbox: Arc<dyn Sandbox>, acp: &AcpId) -> Self {
        Self { sandbox, acp: acp.clone() }
    }

    /// The next events; none when there is nothing new or no log yet.
    ///
    /// # Errors
    /// When the file was cut or replaced, or cannot be read.
    pub async fn read(&self, cursor: &TapCursor) -> Result<TapBatch, TapReadError> {
        let stretch = self.sandbox.read_log(&self.acp, cursor.offset).await?;
        Ok(parse(&stretch, cursor))
    }
}

fn parse(LogStretch { bytes, length }: &LogStretch, cursor: &TapCursor) -> TapBatch {
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
    // An unfinished line at the end of the file does not count as more: the reader waits for its rest.
    let more = next.offset > cursor.offset && cursor.offset + (bytes.len() as u64) < *length;
    TapBatch { events, next, more }
}

fn lost(reason: String) -> TapBody {
    TapBody::Lost { reason, messages: 0, bytes: 0 }
}

/// A run of unreadable lines becomes one event, even when an agent writes a million of them.
fn joined(last: Option<&TapEvent>, event: &TapEvent) -> bool {
    match (last.map(|e| &e.body), &event.body) {
        (
            Some(TapBody::Lost { reason: a, messages: 0, .. }),
            TapBody::Lost { reason: b, messages: 0, .. },
        ) => a == b,
        _ => false,
    }
}

fn read_line(line: &[u8], offset: u64, instance: &mut String) -> (Timestamp, TapBody) {
    let record = match serde_json::from_slice::<Record>(line) {
        Ok(record) if record.offset == offset => record,
        Ok(_) => return (Timestamp::default(), lost("a line with a wrong position".to_owned())),
        Err(_) => return (Timestamp::default(), lost("a line that cannot be parsed".to_owned())),
    };
    let body = match record.entry {
        Entry::Instance { runtime_instance, agent, .. } => {
            *instance = runtime_instance;
            TapBody::Started { agent }
        }
        Entry::Message { dir, msg } => TapBody::Message { direction: dir, json: msg },
        Entry::Refused { id, method, reason } => TapBody::Refused { id, method, reason },
        Entry::Lost { reason, messages, bytes } => TapBody::Lost { reason, messages, bytes },
        Entry::Exit { code, signal } => TapBody::Exited { code, signal },
    };
    (Timestamp::from_micros(record.time), body)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

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
            Ok(parse(&read_file(self.dir.path(), &"agt_1".parse().unwrap(), cursor.offset)?, cursor))
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
