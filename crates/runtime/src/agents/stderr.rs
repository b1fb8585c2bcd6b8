//! Standard error of an agent: copied to the runtime's standard error, up to a limit.

use std::io::{self, BufReader, Write as _};
use std::sync::{Arc, Mutex};

use foundry_sandbox::AcpId;

use crate::tap::lines::{Line, next_line};

/// Bytes copied per agent process.
const MAX_COPIED: usize = 1 << 20;
/// Longest line that is copied, in bytes.
const MAX_LINE: usize = 8 << 10;
/// Characters of the last line that go into error details.
const MAX_LAST: usize = 500;

/// The last line of an agent's standard error.
#[derive(Clone, Default)]
pub(crate) struct LastLine(Arc<Mutex<String>>);

impl LastLine {
    /// The line; empty = none.
    pub fn get(&self) -> String {
        foundry_core::lock(&self.0).clone()
    }

    fn set(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line: String = line.trim().chars().filter(|c| !c.is_control()).take(MAX_LAST).collect();
        if !line.is_empty() {
            *foundry_core::lock(&self.0) = line;
        }
    }
}

/// Starts the thread that copies it.
pub(crate) fn copy(acp: &AcpId, from: io::PipeReader) -> io::Result<LastLine> {
    let line = LastLine::default();
    let (last, acp) = (line.clone(), acp.clone());
    let work = move || {
        // A read error ends the copy; nothing depends on it.
        let _ = copy_lines(&acp, from, &last);
    };
    std::thread::Builder::new().name("agent stderr".to_owned()).spawn(work)?;
    Ok(line)
}

fn copy_lines(acp: &AcpId, from: io::PipeReader, last: &LastLine) -> io::Result<()> {
    let mut source = BufReader::new(from);
    let mut room = MAX_COPIED;
    while let Some(line) = next_line(&mut source, MAX_LINE)? {
        let Line::Whole(line) = line else { continue };
        last.set(&line);
        if room == 0 {
            continue;
        }
        let mut copied = format!("{acp}: ").into_bytes();
        copied.extend_from_slice(&line);
        copied.push(b'\n');
        room = room.saturating_sub(copied.len());
        if room == 0 {
            copied.extend_from_slice(format!("{acp}: (further output is dropped)\n").as_bytes());
        }
        // One write per line, so that lines of several agents stay whole.
        let _ = io::stderr().write_all(&copied);
    }
    Ok(())
}
