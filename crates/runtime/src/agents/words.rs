//! What an agent says on its standard error: passed on to the runtime's own, up to a limit.

use std::io::{self, BufReader, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use foundry_sandbox::AcpId;

use crate::tap::lines::{Line, next_line};

/// Bytes of one agent process that are passed on.
const MAX_WORDS: usize = 1 << 20;
/// Bytes of one line that are passed on.
const MAX_LINE: usize = 8 << 10;
/// Bytes of the last line that are kept to tell how the agent ended.
const MAX_LAST: usize = 500;

/// The last line that was said.
#[derive(Clone, Default)]
pub(crate) struct LastWords(Arc<Mutex<String>>);

impl LastWords {
    /// It.
    pub fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line: String = line.trim().chars().filter(|c| !c.is_control()).take(MAX_LAST).collect();
        if !line.is_empty() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = line;
        }
    }
}

/// Starts the thread that reads them.
pub(crate) fn listen(acp: &AcpId, from: io::PipeReader) -> io::Result<LastWords> {
    let words = LastWords::default();
    let (last, acp) = (words.clone(), acp.clone());
    let work = move || {
        // What cannot be read any more is not missed.
        let _ = pass_on(&acp, from, &last);
    };
    std::thread::Builder::new().name("agent words".to_owned()).spawn(work)?;
    Ok(words)
}

fn pass_on(acp: &AcpId, from: io::PipeReader, last: &LastWords) -> io::Result<()> {
    let mut source = BufReader::new(from);
    let mut room = MAX_WORDS;
    while let Some(line) = next_line(&mut source, MAX_LINE)? {
        let Line::Whole(line) = line else { continue };
        last.set(&line);
        if room == 0 {
            continue;
        }
        let mut said = format!("{acp}: ").into_bytes();
        said.extend_from_slice(&line);
        said.push(b'\n');
        room = room.saturating_sub(said.len());
        if room == 0 {
            said.extend_from_slice(format!("{acp}: (what else it says is not written)\n").as_bytes());
        }
        // One write, so that lines of several agents stay whole.
        let _ = io::stderr().write_all(&said);
    }
    Ok(())
}
