//! The processes of a sandbox, and the validation of what the inside reports about them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Processes that are listed at most.
pub const MAX_PROCESSES: usize = 512;
/// Bytes of a command line that are shown.
const MAX_COMMAND: usize = 1 << 10;
/// The end of the year 9999, in microseconds: a protobuf timestamp cannot hold a later time.
const LAST_MICROS: i64 = 253_402_300_799_999_999;

/// A process of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id as the sandbox sees it.
    pub pid: i32,
    /// The pid of its parent; 0 = none in the sandbox.
    pub parent: i32,
    /// State as the kernel names it: R, S, D, Z, T or I.
    pub state: char,
    /// Processor time used so far, in milliseconds.
    pub cpu_millis: i64,
    /// Resident memory in bytes.
    pub rss_bytes: i64,
    /// When it was started, in microseconds since 1970.
    pub start_micros: i64,
    /// Its command line in one line without control characters, or its name in brackets; at most 1 KiB.
    pub command: String,
}

/// The processes of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessListing {
    /// By pid, at most [`MAX_PROCESSES`].
    pub processes: Vec<Process>,
    /// Whether there are more than these.
    pub truncated: bool,
}

/// A validated listing, by pid: values are brought into range, and a process without a valid pid is left out and counts
/// as truncated.
pub fn checked_listing(said: ProcessListing) -> ProcessListing {
    let mut truncated = said.truncated;
    let mut processes = BTreeMap::new();
    for process in said.processes {
        match checked(process) {
            Some(process) if processes.len() < MAX_PROCESSES || processes.contains_key(&process.pid) => {
                processes.insert(process.pid, process);
            }
            _ => truncated = true,
        }
    }
    ProcessListing { processes: processes.into_values().collect(), truncated }
}

/// A process with every value brought into range; none without a valid pid.
fn checked(p: Process) -> Option<Process> {
    if p.pid <= 0 {
        return None;
    }
    let state = match p.state {
        'R' | 'S' | 'D' | 'Z' | 'T' | 'I' => p.state,
        't' => 'T',
        'X' | 'x' => 'Z',
        _ => 'S',
    };
    Some(Process {
        pid: p.pid,
        parent: p.parent.max(0),
        state,
        cpu_millis: p.cpu_millis.max(0),
        rss_bytes: p.rss_bytes.max(0),
        start_micros: p.start_micros.clamp(0, LAST_MICROS),
        command: shown(&p.command),
    })
}

/// The text in one line, shortened, and without characters that could control a terminal or a page.
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let c = match c {
            c if c.is_control() => '\u{fffd}',
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c => c,
        };
        if out.len() + c.len_utf8() > MAX_COMMAND {
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, command: &str) -> Process {
        Process {
            pid,
            parent: 1,
            state: 'S',
            cpu_millis: 5,
            rss_bytes: 4096,
            start_micros: 7,
            command: command.to_owned(),
        }
    }

    fn listing(processes: Vec<Process>) -> ProcessListing {
        checked_listing(ProcessListing { processes, truncated: false })
    }

    #[test]
    fn lists_by_pid_and_believes_no_number_letter_or_text_that_makes_no_sense() {
        let hostile = Process {
            parent: -3,
            state: '?',
            cpu_millis: -1,
            rss_bytes: -9,
            start_micros: i64::MAX,
            ..process(7, "a\nb\u{1b}[2J\u{202e}")
        };
        let found = listing(vec![hostile, process(2, "a"), process(0, "x"), process(-1, "x")]);
        let p = &found.processes[1];
        assert_eq!((p.pid, p.parent, p.state, p.cpu_millis, p.rss_bytes), (7, 0, 'S', 0, 0));
        assert_eq!((p.start_micros, p.command.as_str()), (LAST_MICROS, "a\u{fffd}b\u{fffd}[2J\u{fffd}"));
        assert_eq!((found.processes[0].pid, found.processes.len(), found.truncated), (2, 2, true));
    }

    #[test]
    fn lists_no_more_than_the_limit_and_says_so() {
        let many = |n: i32| listing((1..=n).map(|pid| process(pid, "x")).collect());
        assert_eq!((many(512).processes.len(), many(512).truncated), (512, false));
        assert_eq!((many(513).processes.len(), many(513).truncated), (512, true));
    }

    #[test]
    fn cuts_a_long_command_between_characters() {
        let long = shown(&"é".repeat(2_000));
        assert!(long.len() <= MAX_COMMAND && long.chars().all(|c| c == 'é'), "{}", long.len());
        assert!(shown(&"\u{1}".repeat(2_000)).len() <= MAX_COMMAND);
    }
}
