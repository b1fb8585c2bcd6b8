//! The processes of a sandbox, seen from inside.

use std::fs::{self, File};
use std::io::Read as _;

use foundry_sandbox::listing::shown;
use foundry_sandbox::process::{Mark, Stat, descendants, marked_tree, stat};
use foundry_sandbox::{MAX_PROCESSES, Process, ProcessListing, SandboxName};

/// Bytes of a command line that are read.
const MAX_READ: u64 = 16 << 10;

/// Every process of this pid namespace; without a namespace of its own, the processes marked with the
/// sandbox's name, this process, and the descendants of both.
pub(crate) fn processes(sandbox: &SandboxName, isolated: bool) -> ProcessListing {
    let mut pids = if isolated { all() } else { of(sandbox) };
    pids.sort_unstable();
    pids.dedup();
    let boot = boot_micros();
    let mut processes: Vec<Process> =
        pids.into_iter().filter_map(|pid| read(pid, boot)).take(MAX_PROCESSES + 1).collect();
    let truncated = processes.len() > MAX_PROCESSES;
    processes.truncate(MAX_PROCESSES);
    ProcessListing { processes, truncated }
}

pub(crate) fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// This process is not found by its mark: it is not dumpable, so its environment is unreadable.
fn of(sandbox: &SandboxName) -> Vec<i32> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let found = descendants(own).into_iter().chain(marked_tree(&Mark::of(sandbox)));
    found.map(|p| p.pid).chain([own]).collect()
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

/// Arguments separated by spaces; for a zombie or kernel thread the name.
fn command(pid: i32) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(format!("/proc/{pid}/cmdline")) {
        // A process that exits has no arguments.
        let _ = file.take(MAX_READ).read_to_end(&mut bytes);
    }
    if pid == 1 {
        // The arguments of bwrap are paths of the host.
        bytes.truncate(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
    }
    let text = String::from_utf8_lossy(&bytes);
    let arguments = text.trim_end_matches('\0').replace('\0', " ");
    if !arguments.is_empty() {
        return shown(&arguments);
    }
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("[{}]", shown(String::from_utf8_lossy(&name).trim_end_matches('\n')))
}

/// Boot time, in microseconds since 1970.
fn boot_micros() -> i64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse::<i64>().ok()).unwrap_or(0).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_with_newlines_and_bytes_that_are_no_text_stays_one_process() {
        let name = std::ffi::OsStr::from_bytes(b"evil\n{\"pid\":1}\xff");
        let mut command = Command::new("cat");
        command.arg0(name).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The echo proves that the child runs `cat` by now.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let found = read(child.id().cast_signed(), boot_micros()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.command, "evil\u{fffd}{\"pid\":1}\u{fffd} -");
        assert_eq!(found.parent, std::process::id().cast_signed());
        assert!(!serde_json::to_string(&found).unwrap().contains('\n'));
    }

    #[test]
    fn shows_itself_and_its_children_where_the_sandbox_has_no_process_ids_of_its_own() {
        let sandbox: SandboxName = format!("test-{}", std::process::id()).parse().unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pids: Vec<i32> = processes(&sandbox, false).processes.iter().map(|p| p.pid).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(pids.contains(&std::process::id().cast_signed()), "{pids:?}");
        assert!(pids.contains(&child.id().cast_signed()), "{pids:?}");
        assert!(!pids.contains(&1), "{pids:?}");
    }
}
