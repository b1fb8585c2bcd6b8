//! The writing side of a tap log. Lines are whole or absent. What could not be written is counted, and the log gets a
//! marker when an outage begins and when it is over.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use foundry_core::Clock;
use foundry_sandbox::Direction;
use foundry_sandbox::tap::record::{Entry, Record};
use foundry_sandbox::tap::{MAX_LINE, MAX_LOG};
use rustix::fs::{FlockOperation, flock};

use super::lines::{Line, next_line};

/// Where the bytes go; tests replace it to simulate a full disk.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

impl Sink for File {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// An open log.
pub(crate) struct TapLog<S> {
    sink: S,
    length: u64,
    clock: Box<dyn Clock>,
    /// Set during an outage; counts the messages that are missing and not yet covered by a marker.
    outage: Option<Missing>,
}

#[derive(Default)]
struct Missing {
    messages: u64,
    bytes: u64,
}

/// Opens the log exclusively for this process, waiting a little for a predecessor that is just being killed. Also
/// returns all prompts that were passed on in the past.
pub(crate) fn open(
    directory: &Path,
    name: &str,
    clock: Box<dyn Clock>,
) -> io::Result<(TapLog<File>, HashSet<String>)> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("{name}.log"));
    let mut file = File::options().create(true).read(true).append(true).open(path)?;
    let mut tries = 0;
    while let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if e != rustix::io::Errno::WOULDBLOCK || tries >= 100 {
            return Err(e.into());
        }
        tries += 1;
        #[allow(clippy::disallowed_methods)] // called from a blocking thread
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let prompts = prompts_passed_on(&mut file)?;
    let length = file.seek(SeekFrom::End(0))?;
    if length > 0 {
        let mut last = [0u8];
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            // A line that was torn by a crash becomes one malformed line, not two lost ones.
            file.write_all(b"\n")?;
        }
    }
    let length = file.metadata()?.len();
    Ok((TapLog::new(file, length, clock), prompts))
}

fn prompts_passed_on(file: &mut File) -> io::Result<HashSet<String>> {
    file.seek(SeekFrom::Start(0))?;
    let mut lines = BufReader::new(file);
    let mut prompts = HashSet::new();
    while let Some(line) = next_line(&mut lines, MAX_LINE)? {
        let Line::Whole(line) = line else { continue };
        let Ok(Record { entry: Entry::Message { dir: Direction::ToAgent, msg }, .. }) =
            serde_json::from_slice(&line)
        else {
            continue;
        };
        if let (Some("session/prompt"), Some(id)) = (msg["method"].as_str(), msg.get("id")) {
            prompts.insert(id.to_string());
        }
    }
    Ok(prompts)
}

impl<S: Sink> TapLog<S> {
    pub fn new(sink: S, length: u64, clock: Box<dyn Clock>) -> Self {
        Self { sink, length, clock, outage: None }
    }

    /// Appends one entry. True when it is in the log.
    pub fn append(&mut self, entry: Entry) -> bool {
        let missing = self.outage.take();
        let began = missing.is_none();
        let (messages, bytes) = missing.map_or((0, 0), |m| (m.messages, m.bytes));
        let marker =
            |reason: &str, messages, bytes| Entry::Lost { reason: reason.to_owned(), messages, bytes };
        // A marker for what is missing is written together with the entry: both or neither.
        let unsaid = (messages > 0).then(|| marker("the log could not be written", messages, bytes));
        let more = size(&entry);
        let entries: Vec<Entry> = unsaid.into_iter().chain([entry]).collect();
        let Err(e) = self.write(&entries) else { return true };
        let mut missing = Missing { messages: messages + 1, bytes: bytes + more };
        // The marker is small and often fits where the entry did not.
        if began && self.write(&[marker(&format!("the log cannot be written: {e}"), 1, more)]).is_ok() {
            missing = Missing::default();
        }
        self.outage = Some(missing);
        false
    }

    /// Its length in bytes: where the next line begins.
    pub fn length(&self) -> u64 {
        self.length
    }

    #[cfg(test)]
    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Writes all of them or none.
    fn write(&mut self, entries: &[Entry]) -> io::Result<()> {
        let time = self.clock.now().as_micros();
        let mut lines = Vec::new();
        for entry in entries {
            let offset = self.length + lines.len() as u64;
            serde_json::to_writer(&mut lines, &Record { offset, time, entry: entry.clone() })?;
            lines.push(b'\n');
        }
        if self.length + lines.len() as u64 > MAX_LOG {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the log has reached its limit"));
        }
        match self.sink.put(&lines) {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(e) => {
                // A partial write is removed, so that the next line is whole.
                self.sink.truncate(self.length)?;
                Err(e)
            }
        }
    }
}

fn size(entry: &Entry) -> u64 {
    serde_json::to_vec(entry).map_or(0, |v| v.len() as u64)
}

#[cfg(test)]
mod tests {
    use foundry_core::SystemClock;
    use serde_json::json;

    use super::*;

    /// A disk with limited space; a write that does not fit is written in part, as on a real one.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Sink for &mut Disk {
        fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
            let fits = bytes.len().min(self.room - self.bytes.len());
            self.bytes.extend_from_slice(&bytes[..fits]);
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn truncate(&mut self, length: u64) -> io::Result<()> {
            self.bytes.truncate(usize::try_from(length).unwrap());
            Ok(())
        }
    }

    fn message(text: &str) -> Entry {
        Entry::Message { dir: Direction::FromAgent, msg: json!({ "text": text }) }
    }

    fn records(disk: &Disk) -> Vec<Record> {
        disk.bytes.split_inclusive(|b| *b == b'\n').map(|l| serde_json::from_slice(l).unwrap()).collect()
    }

    #[test]
    fn says_what_is_missing_when_the_disk_was_full_and_keeps_every_line_whole() {
        let mut disk = Disk { bytes: Vec::new(), room: 400 };
        let mut log = TapLog::new(&mut disk, 0, Box::new(SystemClock));
        assert!(log.append(message("a")));
        for _ in 0..3 {
            assert!(!log.append(message(&"big".repeat(200))));
        }
        log.sink.room = 4_000;
        assert!(log.append(message("b")));
        assert!(log.append(message("c")));
        let records = records(&disk);
        let kinds: Vec<_> = records
            .iter()
            .map(|r| match &r.entry {
                Entry::Message { msg, .. } => msg["text"].as_str().unwrap().to_owned(),
                Entry::Lost { messages, .. } => format!("lost {messages}"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(kinds, ["a", "lost 1", "lost 2", "b", "c"]);
        let mut offset = 0;
        for (record, line) in records.iter().zip(disk.bytes.split_inclusive(|b| *b == b'\n')) {
            assert_eq!(record.offset, offset);
            offset += line.len() as u64;
        }
    }

    #[test]
    fn counts_all_when_not_even_the_marker_fitted() {
        let mut disk = Disk { bytes: Vec::new(), room: 10 };
        let mut log = TapLog::new(&mut disk, 0, Box::new(SystemClock));
        assert!(!log.append(message("a")) && !log.append(message("b")));
        log.sink.room = 4_000;
        assert!(log.append(message("c")));
        assert!(matches!(records(&disk)[0].entry, Entry::Lost { messages: 2, .. }));
    }

    #[test]
    fn knows_after_a_restart_which_prompts_were_passed_on_and_mends_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let open = || open(dir.path(), "agt_1", Box::new(SystemClock)).unwrap();
        let (mut log, prompts) = open();
        assert!(prompts.is_empty());
        let msg = json!({"id": "m1", "method": "session/prompt"});
        assert!(log.append(Entry::Message { dir: Direction::ToAgent, msg }));
        log.sink.write_all(b"{\"torn").unwrap();
        drop(log);
        let (mut log, prompts) = open();
        assert!(prompts.contains("\"m1\""));
        assert!(log.append(message("after")));
        let text = fs::read_to_string(dir.path().join("agt_1.log")).unwrap();
        let last: Record = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((text.lines().count(), last.entry), (3, message("after")));
    }
}
