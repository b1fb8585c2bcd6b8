//! Control groups: where they can be made, and the one of a sandbox. Version 2 where a subtree is delegated to us,
//! version 1 as root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use foundry_sandbox::process::ProcessRef;
use serde::{Deserialize, Serialize};

use super::Limits;

/// The period for limits of processor time, in microseconds.
const PERIOD: u64 = 100_000;
/// The group to which the mesh moves when it must make room in its own.
const MESH: &str = "foundry-mesh";
/// A sandbox counts half as much as a process outside when processors are short.
const WEIGHT_V2: &str = "50";
const SHARES_V1: &str = "512";

/// Where groups of sandboxes can be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Parents {
    /// One directory for all controllers.
    Unified { parent: PathBuf, cpu: bool },
    /// One directory for each controller.
    Split { pids: PathBuf, memory: PathBuf, cpu: Option<PathBuf> },
}

/// The group of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Group {
    Unified { dir: PathBuf, cpu: bool },
    Split { pids: PathBuf, memory: PathBuf, cpu: Option<PathBuf> },
}

/// The counters of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Processes and threads now.
    pub processes: u64,
    /// How many new processes were refused so far.
    pub refused: u64,
    /// Memory in use now, in bytes.
    pub memory: u64,
    /// How many processes were killed for memory so far.
    pub killed: u64,
}

impl Parents {
    /// Determines where this process may make groups.
    ///
    /// # Errors
    /// Why it may not, as a text for users.
    pub fn find() -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
        let (mounts, own) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
        let mut reasons = Vec::new();
        for candidate in unified_candidates(&mounts, &own) {
            match usable_unified(&candidate) {
                Ok(cpu) => return Ok(Self::Unified { parent: candidate.dir, cpu }),
                Err(e) => reasons.push(format!("{}: {e}", candidate.dir.display())),
            }
        }
        match split_candidate(&mounts, &own) {
            Some(parents) => match parents.trial() {
                Ok(()) => return Ok(parents),
                Err(e) => reasons.push(format!("version 1: {e}")),
            },
            None => reasons.push("no version 1 hierarchy for processes and memory".to_owned()),
        }
        // The first reason is that of the nearest group: the one an administrator would have to delegate.
        let reason = reasons.into_iter().next().unwrap_or_default();
        Err(format!("no delegated cgroup ({reason})"))
    }

    /// The version of the kernel's interface, 1 or 2.
    pub fn version(&self) -> u8 {
        if matches!(self, Self::Unified { .. }) { 2 } else { 1 }
    }

    /// Whether processors can be limited.
    pub fn has_cpu(&self) -> bool {
        match self {
            Self::Unified { cpu, .. } => *cpu,
            Self::Split { cpu, .. } => cpu.is_some(),
        }
    }

    /// The group of this name, which need not exist.
    pub fn group(&self, name: &str) -> Group {
        match self {
            Self::Unified { parent, cpu } => Group::Unified { dir: parent.join(name), cpu: *cpu },
            Self::Split { pids, memory, cpu } => Group::Split {
                pids: pids.join(name),
                memory: memory.join(name),
                cpu: cpu.as_ref().map(|c| c.join(name)),
            },
        }
    }

    /// The names of all groups with this prefix.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let parent = match self {
            Self::Unified { parent, .. } => parent,
            Self::Split { pids, .. } => pids,
        };
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let names = entries.filter_map(|e| e.file_name().into_string().ok());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    /// Makes a group and removes it again.
    fn trial(&self) -> io::Result<()> {
        let group = self.group(&format!("foundry-trial-{}", std::process::id()));
        let made = group.create(&Limits::default());
        group.remove()?;
        made
    }
}

impl Group {
    fn dirs(&self) -> Vec<&Path> {
        match self {
            Self::Unified { dir, .. } => vec![dir],
            Self::Split { pids, memory, cpu } => {
                [Some(pids), Some(memory), cpu.as_ref()].into_iter().flatten().map(PathBuf::as_path).collect()
            }
        }
    }

    /// The directory whose members are the processes of the sandbox.
    fn members_dir(&self) -> &Path {
        match self {
            Self::Unified { dir, .. } => dir,
            Self::Split { pids, .. } => pids,
        }
    }

    /// Creates the group with these limits, or sets the limits of an existing one.
    pub fn create(&self, limits: &Limits) -> io::Result<()> {
        for dir in self.dirs() {
            match fs::create_dir(dir) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        let at_most = |n: u64, none: &str| if n == 0 { none.to_owned() } else { n.to_string() };
        let quota = quota(limits.cpus);
        let memory = limits.memory();
        match self {
            Self::Unified { dir, cpu } => {
                set(&dir.join("pids.max"), &at_most(limits.processes, "max"))?;
                set(&dir.join("memory.max"), &at_most(memory, "max"))?;
                // Swap would come on top. The file is absent where the kernel has no swap.
                set_if_there(&dir.join("memory.swap.max"), if memory == 0 { "max" } else { "0" })?;
                if *cpu {
                    let quota = quota.map_or("max".to_owned(), |q| q.to_string());
                    set(&dir.join("cpu.max"), &format!("{quota} {PERIOD}"))?;
                    set(&dir.join("cpu.weight"), WEIGHT_V2)?;
                }
            }
            Self::Split { pids, memory: dir, cpu } => {
                set(&pids.join("pids.max"), &at_most(limits.processes, "max"))?;
                let memory = at_most(memory, "-1");
                // Must never exceed the sum with swap, whichever of the two was lower before.
                let both = dir.join("memory.memsw.limit_in_bytes");
                set(&dir.join("memory.limit_in_bytes"), &memory).or_else(|_| {
                    set_if_there(&both, &memory)
                        .and_then(|()| set(&dir.join("memory.limit_in_bytes"), &memory))
                })?;
                set_if_there(&both, &memory)?;
                if let Some(cpu) = cpu {
                    set(&cpu.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
                    set(&cpu.join("cpu.cfs_quota_us"), &quota.map_or("-1".to_owned(), |q| q.to_string()))?;
                    set(&cpu.join("cpu.shares"), SHARES_V1)?;
                }
            }
        }
        Ok(())
    }

    /// Moves the calling process into the group; processes it starts belong to it, too.
    pub fn join(&self) -> io::Result<()> {
        self.dirs().into_iter().try_for_each(|dir| set(&dir.join("cgroup.procs"), "0"))
    }

    /// The group's counters.
    pub fn counted(&self) -> io::Result<Counted> {
        let (pids, memory, now, events) = match self {
            Self::Unified { dir, .. } => (dir, dir, "memory.current", "memory.events"),
            Self::Split { pids, memory, .. } => (pids, memory, "memory.usage_in_bytes", "memory.oom_control"),
        };
        Ok(Counted {
            processes: number(&pids.join("pids.current"))?,
            refused: field(&pids.join("pids.events"), "max")?,
            memory: number(&memory.join(now))?,
            killed: field(&memory.join(events), "oom_kill")?,
        })
    }

    /// The living processes of the group.
    pub fn members(&self) -> Vec<ProcessRef> {
        let list = || fs::read_to_string(self.members_dir().join("cgroup.procs")).unwrap_or_default();
        let numbers = |text: &str| text.lines().filter_map(|l| l.parse::<i32>().ok()).collect::<Vec<_>>();
        let found: Vec<ProcessRef> =
            numbers(&list()).into_iter().filter_map(|pid| ProcessRef::of(pid).ok()).collect();
        if found.is_empty() {
            return found;
        }
        // A pid that was reused between the two reads is missing from the second one.
        let still: std::collections::HashSet<i32> = numbers(&list()).into_iter().collect();
        found.into_iter().filter(|p| still.contains(&p.pid)).collect()
    }

    /// Prevents new processes in the group until it gets its limits back.
    pub fn forbid_forks(&self) {
        // An absent group has no processes.
        let _ = set(&self.members_dir().join("pids.max"), "0");
    }

    /// Restores the previous limit of processes.
    pub fn allow_forks(&self, limits: &Limits) {
        let most = if limits.processes == 0 { "max".to_owned() } else { limits.processes.to_string() };
        let _ = set(&self.members_dir().join("pids.max"), &most);
    }

    /// Restores the limit of processes where [`Group::forbid_forks`] was not followed by [`Group::allow_forks`].
    pub fn lift_ban(&self, limits: &Limits) {
        if number(&self.members_dir().join("pids.max")).is_ok_and(|most| most == 0) {
            self.allow_forks(limits);
        }
    }

    /// Kills all processes in the group; it may take a moment until it is empty. True = it was not empty.
    pub fn kill(&self) -> bool {
        self.forbid_forks();
        if let Self::Unified { dir, .. } = self {
            // Absent before Linux 5.14.
            let _ = set_if_there(&dir.join("cgroup.kill"), "1");
        }
        let members = self.members();
        for process in &members {
            // It may have exited in the meantime.
            let _ = process.kill();
        }
        !members.is_empty()
    }

    /// Removes the group. An absent one is no error.
    ///
    /// # Errors
    /// When something is still in it.
    pub fn remove(&self) -> io::Result<()> {
        for dir in self.dirs() {
            match fs::remove_dir(dir) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// Processor time per period, in microseconds; none = unlimited. The kernel refuses less than 1 ms.
fn quota(cpus: f64) -> Option<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // bounded
    let quota = (cpus.clamp(0.01, 100_000.0) * PERIOD as f64) as u64;
    (cpus > 0.0).then_some(quota)
}

fn set(path: &Path, value: &str) -> io::Result<()> {
    // Never created: outside a control group, such a file would be an ordinary one.
    let mut file = fs::File::options().write(true).open(path).map_err(|e| named(path, &e))?;
    io::Write::write_all(&mut file, value.as_bytes()).map_err(|e| named(path, &e))
}

fn set_if_there(path: &Path, value: &str) -> io::Result<()> {
    match set(path, value) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn named(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

fn number(path: &Path) -> io::Result<u64> {
    fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)
}

/// The number after a name in a file of such lines; 0 when the kernel does not count it.
fn field(path: &Path, name: &str) -> io::Result<u64> {
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let value = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
    Ok(value.unwrap_or(0))
}

/// The needed fields of a line of `/proc/self/mountinfo`.
struct Mount<'a> {
    /// The mounted part of the file system.
    root: &'a str,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

fn mounts(text: &str) -> impl Iterator<Item = Mount<'_>> {
    text.lines().filter_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let front: Vec<&str> = front.split(' ').collect();
        let back: Vec<&str> = back.split(' ').collect();
        let point = PathBuf::from(front.get(4)?.replace("\\040", " "));
        Some(Mount { root: front.get(3)?, point, kind: back.first()?, options: back.last()? })
    })
}

impl Mount<'_> {
    /// The path of a group through this mount; none for a group outside of it.
    fn place(&self, group: &str) -> Option<PathBuf> {
        let below = Path::new(group).strip_prefix(self.root).ok()?;
        Some(if below.as_os_str().is_empty() { self.point.clone() } else { self.point.join(below) })
    }
}

/// The group of this process in the hierarchy of a controller; an empty controller means version 2.
fn own_group<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        controllers.split(',').any(|c| c == controller).then_some(path)
    })
}

fn split_candidate(mountinfo: &str, own: &str) -> Option<Parents> {
    let place = |controller: &str| {
        let group = own_group(own, controller)?;
        mounts(mountinfo)
            .filter(|m| m.kind == "cgroup" && m.options.split(',').any(|o| o == controller))
            .find_map(|m| m.place(group))
    };
    Some(Parents::Split { pids: place("pids")?, memory: place("memory")?, cpu: place("cpu") })
}

/// A group of version 2 that may have to be divided.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    dir: PathBuf,
    /// Whether this process is directly in it, and not in a group below.
    own: bool,
}

/// Our own group and those above it, the nearest first: the limits of all of them apply.
fn unified_candidates(mountinfo: &str, own: &str) -> Vec<Candidate> {
    let Some(group) = own_group(own, "") else { return Vec::new() };
    let found =
        mounts(mountinfo).filter(|m| m.kind == "cgroup2").find_map(|m| Some((m.place(group)?, m.point)));
    let Some((dir, top)) = found else { return Vec::new() };
    // The group that was made for the mesh is not divided again.
    let start = if dir.ends_with(MESH) { dir.parent().unwrap_or(&dir) } else { &dir };
    let within = start.ancestors().take_while(|d| d.starts_with(&top));
    within.map(|d| Candidate { dir: d.to_owned(), own: d == dir }).collect()
}

/// Ensures that groups below this one can be limited. Returns whether processors can be.
fn usable_unified(candidate: &Candidate) -> io::Result<bool> {
    let dir = &candidate.dir;
    let offers = fs::read_to_string(dir.join("cgroup.controllers"))?;
    let offered = |name: &str| offers.split_ascii_whitespace().any(|c| c == name);
    for needed in ["pids", "memory"] {
        if !offered(needed) {
            return Err(io::Error::other(format!("it has no controller {needed}")));
        }
    }
    let enable = || set(&dir.join("cgroup.subtree_control"), "+pids +memory");
    if let Err(e) = enable() {
        // A group with processes of its own cannot be divided: if we are the only one in it, we move to a group below.
        let alone = fs::read_to_string(dir.join("cgroup.procs"))?.trim() == std::process::id().to_string();
        if !(candidate.own && alone && e.kind() == io::ErrorKind::ResourceBusy) {
            return Err(e);
        }
        let mesh = dir.join(MESH);
        match fs::create_dir(&mesh) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        set(&mesh.join("cgroup.procs"), "0")?;
        enable()?;
    }
    let cpu = offered("cpu") && set(&dir.join("cgroup.subtree_control"), "+cpu").is_ok();
    // Moving a process into a group requires write access here, too.
    fs::File::options().write(true).open(dir.join("cgroup.procs"))?;
    Parents::Unified { parent: dir.clone(), cpu }.trial()?;
    Ok(cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn finds_the_own_group_in_each_hierarchy_of_version_1() {
        let own = "8:pids:/\n4:memory:/docker/abc/run\n1:cpu,cpuacct:/user\n0::/x";
        let place = |p: &str| PathBuf::from(p);
        let found = split_candidate(HYBRID, own);
        let expected = Parents::Split {
            pids: place("/sys/fs/cgroup/pids"),
            memory: place("/sys/fs/cgroup/memory/run"),
            cpu: Some(place("/sys/fs/cgroup/cpu/user")),
        };
        assert_eq!(found, Some(expected));
        assert_eq!(
            split_candidate(HYBRID, "8:pids:/\n4:memory:/elsewhere\n0::/x"),
            None,
            "not seen through the mount"
        );
        assert_eq!(split_candidate(HYBRID, "0::/"), None);
    }

    #[test]
    fn tries_the_own_group_of_version_2_and_then_those_above() {
        let candidate = |dir: &str, own| Candidate { dir: dir.into(), own };
        let top = "/sys/fs/cgroup/unified";
        assert_eq!(
            unified_candidates(HYBRID, "0::/a/b"),
            [
                candidate(&format!("{top}/a/b"), true),
                candidate(&format!("{top}/a"), false),
                candidate(top, false)
            ]
        );
        assert_eq!(unified_candidates(HYBRID, "0::/"), [candidate(top, true)]);
        assert_eq!(
            unified_candidates(HYBRID, "0::/foundry-mesh"),
            [candidate(top, false)],
            "an earlier start made it"
        );
        assert!(unified_candidates(HYBRID, "4:memory:/x").is_empty());
    }

    #[test]
    fn counts_processor_time_in_parts_of_a_processor() {
        assert_eq!([0.0, 0.5, 2.0, 0.000_1].map(quota), [None, Some(50_000), Some(200_000), Some(1_000)]);
    }

    #[test]
    fn speaks_the_files_of_version_2() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let read = |name: &str| fs::read_to_string(at(name)).unwrap();
        for name in [
            "pids.max",
            "memory.max",
            "memory.swap.max",
            "cpu.max",
            "cpu.weight",
            "cgroup.procs",
            "cgroup.kill",
        ] {
            fs::write(at(name), "").unwrap();
        }
        let group = Group::Unified { dir: dir.path().to_owned(), cpu: true };
        let limits = Limits { processes: 200, memory_bytes: Some(512 << 20), cpus: 1.5, ..Limits::default() };
        group.create(&limits).unwrap();
        let written = ["pids.max", "memory.max", "memory.swap.max", "cpu.max", "cpu.weight"].map(read);
        assert_eq!(written, ["200", "536870912", "0", "150000 100000", "50"]);
        group.join().unwrap();
        assert_eq!(read("cgroup.procs"), "0", "the one that writes");

        // In the format of Linux 6.1.
        fs::write(at("pids.current"), "7\n").unwrap();
        fs::write(at("pids.events"), "max 12\n").unwrap();
        fs::write(at("memory.current"), "4096\n").unwrap();
        let events = "low 0\nhigh 0\nmax 30\noom 4\noom_kill 3\noom_group_kill 9\n";
        fs::write(at("memory.events"), events).unwrap();
        let counted = Counted { processes: 7, refused: 12, memory: 4_096, killed: 3 };
        assert_eq!(group.counted().unwrap(), counted);
        // Older kernels do not count all of these.
        fs::write(at("memory.events"), "low 0\nhigh 0\nmax 30\noom 4\n").unwrap();
        fs::remove_file(at("pids.events")).unwrap();
        assert_eq!(group.counted().unwrap(), Counted { refused: 0, killed: 0, ..counted });

        fs::write(at("pids.max"), "").unwrap();
        group.forbid_forks();
        assert_eq!(read("pids.max"), "0");
        for most in ["max\n", "7\n"] {
            fs::write(at("pids.max"), most).unwrap();
            group.lift_ban(&limits);
            assert_eq!(read("pids.max"), most, "it is no ban");
        }
        fs::write(at("pids.max"), "0\n").unwrap();
        group.lift_ban(&limits);
        assert_eq!(read("pids.max").trim(), "200");
        fs::write(at("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(group.members(), [ProcessRef::of(std::process::id().cast_signed()).unwrap()]);
        fs::write(at("cgroup.procs"), "").unwrap();
        assert!(!group.kill(), "it is empty");
        assert_eq!(read("cgroup.kill"), "1");
    }

    #[test]
    fn never_makes_a_file_that_is_not_a_control() {
        let dir = tempfile::tempdir().unwrap();
        let group = Group::Unified { dir: dir.path().join("g"), cpu: true };
        assert_eq!(group.create(&Limits::default()).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!dir.path().join("g/pids.max").exists());
        group.remove().unwrap();
        group.remove().unwrap();
    }
}
