//! Processes as the kernel shows them: identity beyond the pid, and kills that cannot hit another process.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::SandboxName;

/// A process, distinguished from any later one with the same pid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// The process id; reused by the kernel after the process is gone.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_time_ticks: u64,
    /// The kernel's id of the boot in which it was started.
    pub boot_id: String,
}

/// The state of a [`ProcessRef`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It runs (or is stopped).
    Running,
    /// No process has the pid, or it is a zombie.
    Gone,
    /// Another process has the pid.
    Recycled,
    /// It was started before the last boot.
    EarlierBoot,
}

/// The facts of `/proc/<pid>/stat` that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// One letter: R, S, D, T, Z …
    pub state: u8,
    /// Pid of the parent.
    pub parent: i32,
    /// Id of the session, which is the pid of its leader.
    pub session: i32,
    /// Start time in clock ticks since boot.
    pub start_time_ticks: u64,
    /// Processor time used in user and kernel mode, in clock ticks.
    pub cpu_ticks: u64,
    /// Resident memory in pages.
    pub rss_pages: i64,
    /// The number of threads.
    pub threads: u64,
}

impl Stat {
    /// Whether nothing of it runs any more. A process whose first thread has exited has the state of a zombie, while
    /// its other threads continue to run, with files, memory and children.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }
}

/// The id of this boot of the machine.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Reads `/proc/<pid>/stat`; none when there is no such process.
pub fn stat(pid: i32) -> Option<Stat> {
    // A process may set a name that is not valid UTF-8, and must not become invisible by that.
    let line = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&line))
}

/// The command name is in parentheses and may contain spaces and parentheses itself: parse from the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let rest = &text[text.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_time_ticks: fields.get(19)?.parse().ok()?,
        cpu_ticks: fields.get(11)?.parse::<u64>().ok()?.saturating_add(fields.get(12)?.parse().ok()?),
        rss_pages: fields.get(21)?.parse().ok()?,
        threads: fields.get(17)?.parse().ok()?,
    })
}

impl ProcessRef {
    /// The process that has this pid now.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = stat(pid).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Self { pid, start_time_ticks: stat.start_time_ticks, boot_id: boot_id()? })
    }

    /// Its state now.
    pub fn presence(&self) -> Presence {
        if boot_id().is_ok_and(|b| b != self.boot_id) {
            return Presence::EarlierBoot;
        }
        match stat(self.pid) {
            None => Presence::Gone,
            Some(s) if s.start_time_ticks != self.start_time_ticks => Presence::Recycled,
            Some(s) if s.is_dead() => Presence::Gone,
            Some(_) => Presence::Running,
        }
    }

    /// Kills exactly this process: the handle is opened first and its identity checked through the open
    /// handle's lifetime, so that a number recycled in between is never hit. True when a signal was sent.
    pub fn kill(&self) -> io::Result<bool> {
        // Facts come from files: a damaged one must not make us kill process 1 or a group.
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.pid > 1) else { return Ok(false) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        if self.presence() != Presence::Running {
            return Ok(false);
        }
        match pidfd_send_signal(&handle, Signal::KILL) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

/// The mark in the environment of a sandbox's processes: `FOUNDRY_SANDBOX=<name>`. Only made from a checked name: an
/// empty one would match, and kill, every process of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// The name of the environment variable.
    pub const VARIABLE: &'static str = "FOUNDRY_SANDBOX";

    /// The mark of this sandbox.
    pub fn of(name: &SandboxName) -> Self {
        Self(format!("{}={name}", Self::VARIABLE))
    }

    /// Whether the process was started with this mark.
    fn is_on(&self, pid: i32) -> bool {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|env| env.split(|b| *b == 0).any(|entry| entry == self.0.as_bytes()))
    }
}

/// Every process that is neither a zombie nor the machine's first.
fn living() -> Vec<(ProcessRef, Stat)> {
    let (Ok(entries), Ok(boot_id)) = (fs::read_dir("/proc"), boot_id()) else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid > 1)
        .filter_map(|pid| {
            let stat = stat(pid).filter(|s| !s.is_dead())?;
            let process =
                ProcessRef { pid, start_time_ticks: stat.start_time_ticks, boot_id: boot_id.clone() };
            Some((process, stat))
        })
        .collect()
}

/// The living descendants of a process, without the process itself.
pub fn descendants(root: i32) -> Vec<ProcessRef> {
    below(&living(), &[root])
}

/// The same with the kernel's data on each.
pub fn family(root: i32) -> Vec<(ProcessRef, Stat)> {
    let mut all = living();
    let below: HashSet<i32> = below(&all, &[root]).into_iter().map(|p| p.pid).collect();
    all.retain(|(process, _)| below.contains(&process.pid));
    all
}

/// The living processes that carry the mark, and their living descendants.
pub fn marked_tree(mark: &Mark) -> Vec<ProcessRef> {
    let all = living();
    let mut found: Vec<ProcessRef> =
        all.iter().filter(|(p, _)| mark.is_on(p.pid)).map(|(p, _)| p.clone()).collect();
    let roots: Vec<i32> = found.iter().map(|p| p.pid).collect();
    found.extend(below(&all, &roots).into_iter().filter(|p| !roots.contains(&p.pid)));
    found
}

fn below(all: &[(ProcessRef, Stat)], roots: &[i32]) -> Vec<ProcessRef> {
    let mut children: HashMap<i32, Vec<&ProcessRef>> = HashMap::new();
    for (process, stat) in all {
        children.entry(stat.parent).or_default().push(process);
    }
    let mut seen: HashSet<i32> = roots.iter().copied().collect();
    let mut parents = roots.to_vec();
    let mut found: Vec<ProcessRef> = Vec::new();
    while let Some(parent) = parents.pop() {
        for process in children.get(&parent).into_iter().flatten() {
            if seen.insert(process.pid) {
                parents.push(process.pid);
                found.push((*process).clone());
            }
        }
    }
    found
}

/// How long killed processes may take to disappear from the process table.
pub const KILL_GRACE: Duration = Duration::from_secs(10);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn a_process_whose_other_threads_go_on_is_not_dead() {
        let own = stat(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(!own.is_dead());
        assert!(!Stat { state: b'Z', threads: 2, ..own }.is_dead());
        assert!(Stat { state: b'Z', threads: 1, ..own }.is_dead());
    }

    #[test]
    fn reads_a_stat_line_whose_command_holds_spaces_and_parentheses() {
        let line = "42 (a) b (c) S 7 42 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        let s = parse_stat(line).unwrap();
        assert_eq!((s.state, s.parent, s.session, s.start_time_ticks), (b'S', 7, 40, 987_654));
        assert_eq!((s.cpu_ticks, s.rss_pages, s.threads), (11, 2, 1));
    }

    /// Starts a `cat` and waits until it has that name, which it gets only after it was started.
    pub(crate) fn started(command: &mut std::process::Command) -> std::process::Child {
        use std::io::{Read as _, Write as _};
        use std::process::Stdio;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    #[test]
    fn a_name_that_is_no_text_hides_no_process() {
        use std::os::unix::ffi::OsStrExt as _;
        // The kernel names a process after the file that it runs.
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe)"));
        std::os::unix::fs::symlink("/bin/cat", &program).unwrap();
        let mut child = started(&mut std::process::Command::new(&program));
        let pid = child.id().cast_signed();
        let (name, found) = (fs::read(format!("/proc/{pid}/comm")).unwrap(), stat(pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(name, b"\xff\xfe)\n");
        assert_eq!(found.unwrap().parent, std::process::id().cast_signed());
    }

    #[test]
    fn never_kills_a_process_that_only_has_the_same_number() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let real = ProcessRef::of(i32::try_from(child.id()).unwrap()).unwrap();
        let other = ProcessRef { start_time_ticks: real.start_time_ticks + 1, ..real.clone() };
        let earlier = ProcessRef { boot_id: "another boot".into(), ..real.clone() };
        assert_eq!(other.presence(), Presence::Recycled);
        assert_eq!(earlier.presence(), Presence::EarlierBoot);
        assert!(!other.kill().unwrap() && !earlier.kill().unwrap());
        assert_eq!(real.presence(), Presence::Running);
        assert!(real.kill().unwrap());
        child.wait().unwrap();
        assert_eq!(real.presence(), Presence::Gone);
    }

    #[test]
    fn finds_a_marked_process_and_its_descendants_and_nobody_else() {
        let name: SandboxName = format!("test-{}", std::process::id()).parse().unwrap();
        let start = |mark: bool| {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", "env -i sleep 60 & echo; wait"]).stdout(std::process::Stdio::piped());
            if mark {
                command.env(Mark::VARIABLE, name.as_str());
            }
            let mut child = command.spawn().unwrap();
            // The empty line means that the grandchild was started.
            let mut said = [0u8];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
            child
        };
        let (mut ours, mut stranger) = (start(true), start(false));
        let (own, other) = (ours.id().cast_signed(), stranger.id().cast_signed());
        let tree = marked_tree(&Mark::of(&name));
        let strangers = descendants(other);
        assert_eq!((tree.len(), strangers.len()), (2, 1), "{tree:?} {strangers:?}");
        assert_eq!((tree[0].pid, stat(tree[1].pid).unwrap().parent), (own, own));
        assert_eq!(descendants(own), tree[1..]);
        assert!(strangers.iter().all(|s| !tree.contains(s)));
        // Parents first: a shell whose child was killed would exit as well.
        for process in tree.iter().chain(&[ProcessRef::of(other).unwrap()]).chain(&strangers) {
            assert!(process.kill().unwrap());
        }
        ours.wait().unwrap();
        stranger.wait().unwrap();
    }
}
