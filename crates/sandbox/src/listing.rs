//! Which processes run in a sandbox: `internal processes` reads them inside, and the host believes little
//! of what it prints, since everything in there can be an agent's doing.
//!
//! One process is one line of JSON, so that neither newlines nor bytes that are no text in a name can
//! pretend to be another process.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};

use serde::{Deserialize, Serialize};

use crate::SandboxName;
use crate::process::{Mark, Stat, marked_tree, stat};

/// Processes that are listed at most.
pub const MAX_PROCESSES: usize = 512;
/// Bytes of a command line that are shown.
const MAX_COMMAND: usize = 1 << 10;
/// Bytes of a command line that are read.
const MAX_READ: u64 = 16 << 10;
/// The end of the year 9999, in microseconds: no later time can be told in a protobuf timestamp.
const LAST_MICROS: i64 = 253_402_300_799_999_999;
/// What stands for something that is not shown.
const HIDDEN: &str = "***";

/// A process of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id as the sandbox sees it.
    pub pid: i32,
    /// That of its parent; 0 = none in the sandbox.
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessListing {
    /// By pid, at most [`MAX_PROCESSES`].
    pub processes: Vec<Process>,
    /// Whether there are more than these.
    pub truncated: bool,
}

/// `internal processes all` lists every process of this pid namespace, `internal processes NAME` those of
/// a sandbox that has none of its own. Itself and the `exec` it runs under are left out.
pub(crate) fn run(arguments: &[String]) -> i32 {
    let [of] = arguments else { return 64 };
    let pids = match of.as_str() {
        "all" => all(),
        name => match name.parse::<SandboxName>() {
            Ok(name) => marked_tree(&Mark::of(&name)).into_iter().map(|p| p.pid).collect(),
            Err(_) => return 64,
        },
    };
    match print(pids) {
        Ok(()) => 0,
        Err(_) => 74,
    }
}

fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

fn print(mut pids: Vec<i32>) -> io::Result<()> {
    let own = [Some(rustix::process::getpid()), rustix::process::getppid()];
    let own = own.map(|pid| pid.map_or(0, |p| p.as_raw_nonzero().get()));
    pids.retain(|pid| !own.contains(pid));
    pids.sort_unstable();
    pids.dedup();
    let boot = boot_micros();
    let mut out = io::BufWriter::new(io::stdout().lock());
    // One more than are listed tells that there are more.
    for process in pids.into_iter().filter_map(|pid| read(pid, boot)).take(MAX_PROCESSES + 1) {
        serde_json::to_writer(&mut out, &process)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn read(pid: i32, boot_micros: i64) -> Option<Process> {
    let stat: Stat = stat(pid)?;
    let hertz = i64::try_from(rustix::param::clock_ticks_per_second()).ok().filter(|hz| *hz > 0)?;
    let page = i64::try_from(rustix::param::page_size()).ok()?;
    let micros = |ticks: u64| i64::try_from(ticks).unwrap_or(i64::MAX).saturating_mul(1_000_000 / hertz);
    Some(Process {
        pid,
        parent: stat.parent,
        state: char::from(stat.state),
        cpu_millis: micros(stat.cpu_ticks) / 1_000,
        rss_bytes: stat.rss_pages.saturating_mul(page),
        start_micros: boot_micros.saturating_add(micros(stat.start_time_ticks)),
        command: command(pid),
    })
}

/// Arguments separated by spaces; a zombie or kernel thread has none, only a name.
fn command(pid: i32) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(format!("/proc/{pid}/cmdline")) {
        // One that ends meanwhile has no more of it.
        let _ = file.take(MAX_READ).read_to_end(&mut bytes);
    }
    if pid == 1 {
        // What keeps the sandbox apart: its arguments are paths of the host.
        bytes.truncate(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
    }
    let arguments = without_token(&bytes);
    if !arguments.is_empty() {
        return shown(&arguments);
    }
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("[{}]", shown(String::from_utf8_lossy(&name).trim_end_matches('\n')))
}

/// The runtime's token is an argument of the runtime; whoever looks at processes has no use for it.
fn without_token(cmdline: &[u8]) -> String {
    let text = String::from_utf8_lossy(cmdline);
    let mut hide = false;
    let argument = |argument: &str| {
        let hidden = std::mem::replace(&mut hide, argument == "--token");
        match argument.strip_prefix("--token=") {
            Some(_) => format!("--token={HIDDEN}"),
            None if hidden => HIDDEN.to_owned(),
            None => argument.to_owned(),
        }
    };
    text.trim_end_matches('\0').split('\0').map(argument).collect::<Vec<_>>().join(" ")
}

/// In one line, without what could steer a terminal or a page, and not too long.
fn shown(text: &str) -> String {
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

/// When this machine started, in microseconds since 1970.
fn boot_micros() -> i64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse::<i64>().ok()).unwrap_or(0).saturating_mul(1_000_000)
}

/// Reads what `internal processes` printed. Lines that are no process, such as one that was cut off, are
/// left out and count as more; `token` is shown nowhere.
pub(crate) fn parse(printed: &str, cut: bool, token: &str) -> ProcessListing {
    let mut truncated = cut;
    let mut processes = BTreeMap::new();
    for line in printed.lines() {
        match serde_json::from_str(line).ok().and_then(|p| checked(p, token)) {
            Some(process) if processes.len() < MAX_PROCESSES || processes.contains_key(&process.pid) => {
                processes.insert(process.pid, process);
            }
            _ => truncated = true,
        }
    }
    ProcessListing { processes: processes.into_values().collect(), truncated }
}

/// A process with every number and letter in its range.
fn checked(p: Process, token: &str) -> Option<Process> {
    if p.pid <= 0 {
        return None;
    }
    let state = match p.state {
        'R' | 'S' | 'D' | 'Z' | 'T' | 'I' => p.state,
        't' => 'T',
        'X' | 'x' => 'Z',
        _ => 'S',
    };
    let command = if token.is_empty() { p.command } else { p.command.replace(token, HIDDEN) };
    Some(Process {
        pid: p.pid,
        parent: p.parent.max(0),
        state,
        cpu_millis: p.cpu_millis.max(0),
        rss_bytes: p.rss_bytes.max(0),
        start_micros: p.start_micros.clamp(0, LAST_MICROS),
        command: shown(&command),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::process::CommandExt as _;

    use super::*;
    use crate::process::tests::started;

    fn line(pid: i32, command: &str) -> String {
        let process = Process {
            pid,
            parent: 1,
            state: 'S',
            cpu_millis: 5,
            rss_bytes: 4096,
            start_micros: 7,
            command: command.to_owned(),
        };
        serde_json::to_string(&process).unwrap()
    }

    #[test]
    fn reads_its_own_lines_back_in_order_of_pid() {
        let listing = parse(&format!("{}\n{}\n", line(9, "b"), line(2, "a")), false, "t0ken");
        let pids: Vec<_> = listing.processes.iter().map(|p| (p.pid, p.command.as_str())).collect();
        assert_eq!((pids, listing.truncated), (vec![(2, "a"), (9, "b")], false));
    }

    #[test]
    fn believes_no_number_letter_or_text_that_makes_no_sense() {
        let hostile = r#"{"pid":7,"parent":-3,"state":"?","cpu_millis":-1,"rss_bytes":-9,"start_micros":9223372036854775807,"command":"a\nb\u001b[2Jt0ken\u202e"}"#;
        let listing = parse(hostile, false, "t0ken");
        let p = &listing.processes[0];
        assert_eq!((p.parent, p.state, p.cpu_millis, p.rss_bytes), (0, 'S', 0, 0));
        assert_eq!((p.start_micros, p.command.as_str()), (LAST_MICROS, "a\u{fffd}b\u{fffd}[2J***\u{fffd}"));
        for bad in [line(0, "x"), line(-1, "x"), "{}".into(), "\u{0}".into(), line(3, "x")[..20].into()] {
            let listing = parse(&bad, false, "");
            assert_eq!((listing.processes.len(), listing.truncated), (0, true), "{bad}");
        }
        assert!(parse("", true, "").truncated);
    }

    #[test]
    fn lists_no_more_than_the_limit_and_says_so() {
        let text = |n: i32| (1..=n).map(|pid| line(pid, "x")).collect::<Vec<_>>().join("\n");
        let full = parse(&text(512), false, "");
        assert_eq!((full.processes.len(), full.truncated), (512, false));
        let over = parse(&text(513), false, "");
        assert_eq!((over.processes.len(), over.truncated), (512, true));
    }

    #[test]
    fn cuts_a_long_command_between_characters() {
        let long = shown(&"é".repeat(2_000));
        assert!(long.len() <= MAX_COMMAND && long.chars().all(|c| c == 'é'), "{}", long.len());
        assert!(shown(&"\u{1}".repeat(2_000)).len() <= MAX_COMMAND);
    }

    #[test]
    fn hides_the_token_of_the_runtime() {
        assert_eq!(without_token(b"agent\0--token\0abc\0--port\x001\0"), "agent --token *** --port 1");
        assert_eq!(without_token(b"agent\0--token=abc\0"), "agent --token=***");
    }

    #[test]
    fn a_name_with_newlines_and_bytes_that_are_no_text_stays_one_process() {
        let name = std::ffi::OsStr::from_bytes(b"evil\n{\"pid\":1}\xff");
        let mut child = started(std::process::Command::new("cat").arg0(name).arg("-"));
        let found = read(child.id().cast_signed(), boot_micros()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.command, "evil\u{fffd}{\"pid\":1}\u{fffd} -");
        assert_eq!(found.parent, std::process::id().cast_signed());
        let text = serde_json::to_string(&found).unwrap();
        assert!(!text.contains('\n'));
        assert_eq!(parse(&text, false, "").processes[0].pid, found.pid);
    }
}
