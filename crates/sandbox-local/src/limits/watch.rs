//! The supervisor's measurements of its sandbox: frequent where they are cheap, and never more than a twentieth of a
//! processor. Reached limits are written to a file beside the facts, only when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foundry_core::{Clock as _, SystemClock};
use foundry_sandbox::{LimitKind, LimitReport, ProcessRef};

use super::disk::{self, Ground, Usage};
use super::family::{self, Family, Member, pause};
use super::judge::{Forks, ReachedLimits, Sentence, Stock};
use super::{Group, Limits, meminfo};
use crate::launch::write_json;
use crate::layout::read_json;

/// Time between two reads of the kernel's counters.
const TICK: Duration = Duration::from_millis(250);
/// The same where only these measurements limit a sandbox.
const SHORT_TICK: Duration = Duration::from_millis(50);
/// A measurement may take this fraction of the time (one part in twenty).
const SHARE: u32 = 20;
/// The same while the host has changed so much that a limit may have been passed.
const ALARMED_SHARE: u32 = 4;
const LONGEST: Duration = Duration::from_secs(120);

/// When an expensive measurement is next due.
#[derive(Clone, Copy, Debug)]
struct Beat {
    done: Instant,
    cost: Duration,
    least: Duration,
}

impl Beat {
    fn new(now: Instant, least: Duration) -> Self {
        Self { done: now, cost: Duration::ZERO, least }
    }

    fn is_due(&self, now: Instant, alarmed: bool) -> bool {
        let (share, least) = if alarmed { (ALARMED_SHARE, Duration::ZERO) } else { (SHARE, self.least) };
        now.duration_since(self.done) >= (self.cost * share).clamp(least, LONGEST)
    }

    fn took(&mut self, since: Instant) {
        self.done = Instant::now();
        self.cost = self.done.duration_since(since);
    }
}

/// State that can be read without waiting for a measurement.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// How many processes were killed for memory, by the control group's counter.
    killed: AtomicU64,
    /// When a process was last killed for memory.
    last: Mutex<Option<Instant>>,
}

impl Pulse {
    /// Whether a process was killed for memory just now or shortly before.
    pub fn memory_ended(&self, group: Option<&Group>) -> bool {
        let counted = group.and_then(|g| g.counted().ok()).map_or(0, |c| c.killed);
        let last = *foundry_core::lock(&self.last);
        counted > self.killed.load(Ordering::Acquire)
            || last.is_some_and(|at| at.elapsed() < Duration::from_secs(3))
    }
}

/// The measurements of one sandbox.
pub(crate) struct Watch {
    limits: Limits,
    memory_limit: u64,
    family: Family,
    /// The directories it can write to.
    places: Vec<PathBuf>,
    file: PathBuf,
    words: String,
    reached: ReachedLimits,
    written: Option<LimitReport>,
    forks: Forks,
    pulse: Arc<Pulse>,
    disk: (Stock, Stock),
    disk_beat: Beat,
    ground: Ground,
    usage: Usage,
    process_beat: Beat,
    /// Number of tasks and free memory of the whole host when the processes were last measured.
    host: (u64, u64),
    taken: (u64, u64),
}

impl Watch {
    /// For a sandbox that is being started; continues from the limits in the file.
    pub fn new(limits: &Limits, family: Family, places: Vec<PathBuf>, file: PathBuf, words: String) -> Self {
        let now = Instant::now();
        let before = read_json::<LimitReport>(&file).unwrap_or_default();
        let counted = family.group.as_ref().and_then(|g| g.counted().ok()).unwrap_or_default();
        let least = Duration::from_millis(500);
        Self {
            memory_limit: limits.memory(),
            family,
            places,
            file,
            words,
            reached: ReachedLimits::from(before.reached, now),
            written: None,
            forks: Forks::new(counted.refused),
            pulse: Arc::new(Pulse { killed: counted.killed.into(), ..Pulse::default() }),
            disk: (Stock::new(limits.disk_bytes), Stock::new(limits.disk_files)),
            disk_beat: Beat::new(now, least),
            ground: Ground::default(),
            usage: Usage::default(),
            process_beat: Beat::new(now, TICK),
            host: (0, 0),
            taken: (0, 0),
            limits: limits.clone(),
        }
    }

    /// Starts two threads that measure for as long as the process lives: a long measurement of the disk must not delay
    /// the other one, which sees what grows faster.
    ///
    /// # Errors
    /// When there is no room for a thread.
    pub fn start(self) -> io::Result<(Arc<Mutex<Self>>, Arc<Pulse>)> {
        let pulse = Arc::clone(&self.pulse);
        let measured = self.family.group.is_none() && (self.limits.processes > 0 || self.memory_limit > 0);
        let disk = self.limits.disk_bytes > 0 || self.limits.disk_files > 0;
        let shared = Arc::new(Mutex::new(self));
        let watch = Arc::clone(&shared);
        std::thread::Builder::new().name("limits".to_owned()).spawn(move || {
            loop {
                foundry_core::lock(&watch).check();
                pause(if measured { SHORT_TICK } else { TICK });
            }
        })?;
        if disk {
            let watch = Arc::clone(&shared);
            std::thread::Builder::new().name("limits of disk".to_owned()).spawn(move || {
                loop {
                    check_disk(&watch, disk::measure);
                    pause(TICK);
                }
            })?;
        }
        Ok((shared, pulse))
    }

    /// Measures what changes fast, as far as it is due.
    fn check(&mut self) {
        if self.family.group.is_none() {
            self.measure_processes();
        }
        self.evaluate();
    }

    /// Evaluates the kernel's counters, and records reached limits.
    pub fn evaluate(&mut self) {
        if let Some(Ok(counted)) = self.family.group.as_ref().map(Group::counted) {
            self.counted(counted.processes, counted.refused, counted.killed);
        }
        for (kind, used, limit) in [
            (LimitKind::DiskBytes, self.usage.bytes, self.limits.disk_bytes),
            (LimitKind::DiskFiles, self.usage.files, self.limits.disk_files),
        ] {
            if limit > 0 && used > limit {
                self.see(kind, used, limit, false);
            }
        }
        self.reached.settle(Instant::now());
        self.write();
    }

    fn see(&mut self, kind: LimitKind, used: u64, limit: u64, ended: bool) {
        let now = Instant::now();
        self.reached.see(kind, used, limit, ended, (SystemClock.now(), now));
        if kind == LimitKind::Memory && ended {
            *foundry_core::lock(&self.pulse.last) = Some(now);
        }
    }

    /// Evaluates the counters of a control group.
    fn counted(&mut self, processes: u64, refused: u64, killed: u64) {
        if killed > self.pulse.killed.load(Ordering::Acquire) {
            self.see(LimitKind::Memory, self.memory_limit, self.memory_limit, true);
            self.pulse.killed.store(killed, Ordering::Release);
        }
        let limit = self.limits.processes;
        if limit == 0 {
            return;
        }
        let (hit, sentence) = self.forks.judge(processes, refused, limit, Instant::now());
        if hit || sentence > Sentence::Spare {
            let ended = self.end(sentence);
            self.see(LimitKind::Processes, processes, limit, ended);
        }
    }

    /// Kills the processes of the sentence, while no new ones can start.
    fn end(&mut self, sentence: Sentence) -> bool {
        if sentence == Sentence::Spare {
            return false;
        }
        if let Some(group) = &self.family.group {
            group.forbid_forks();
        }
        let ended = self.family.end(sentence);
        if let Some(group) = &self.family.group {
            group.allow_forks(&self.limits);
            // Refusals during this time do not count against the limit.
            if let Ok(counted) = group.counted() {
                self.forks.discount(counted.refused);
            }
        }
        ended
    }

    fn measure_processes(&mut self) {
        let (processes, memory) = (self.limits.processes, self.memory_limit);
        if processes == 0 && memory == 0 {
            return;
        }
        let host = (host_tasks(), meminfo("MemAvailable:"));
        let may_exceed = |limit: u64, taken: u64, grown: u64| {
            limit > 0 && grown > limit.saturating_sub(taken).max(limit / 16) / 2
        };
        let alarmed = may_exceed(processes, self.taken.0, host.0.saturating_sub(self.host.0))
            || may_exceed(memory, self.taken.1, self.host.1.saturating_sub(host.1));
        let start = Instant::now();
        if !self.process_beat.is_due(start, alarmed) {
            return;
        }
        self.host = host;
        let mut members = self.family.members();
        self.taken = (threads(&members), self.memory_of(&members));
        for sentence in [Sentence::Commands, Sentence::AllButRuntime] {
            if processes > 0 && self.taken.0 > processes {
                let ended = self.family.end(sentence);
                self.see(LimitKind::Processes, self.taken.0, processes, ended);
                members = self.family.members();
                self.taken = (threads(&members), self.memory_of(&members));
            }
        }
        // As the kernel does: kill the largest, and the next if that was not enough.
        for _ in 0..100 {
            if memory == 0 || self.taken.1 <= memory {
                break;
            }
            let ended = self.family.end_largest(&members);
            self.see(LimitKind::Memory, self.taken.1, memory, ended);
            if !ended {
                break;
            }
            pause(Duration::from_millis(20));
            members = self.family.members();
            self.taken.1 = self.memory_of(&members);
        }
        self.process_beat.took(start);
    }

    /// The memory of the processes and of the in-memory file systems they can write to.
    fn memory_of(&self, members: &[Member]) -> u64 {
        if self.memory_limit == 0 {
            return 0;
        }
        let shared = if self.family.bubblewrap {
            Ground::of(Path::new(&format!("/proc/{}/root/dev/shm", self.family.main))).bytes
        } else {
            0
        };
        family::memory(members, self.memory_limit).saturating_add(shared)
    }

    /// What to measure for the disk, when that is due.
    fn disk_is_due(&mut self) -> Option<(Vec<PathBuf>, Vec<ProcessRef>)> {
        let ground = self.places.first().map(|p| Ground::of(p)).unwrap_or_default();
        let grown = |now: u64, before: u64, stock: &Stock, used: u64, limit: u64| {
            limit > 0 && now.saturating_sub(before) > stock.left(used) / 2
        };
        let alarmed =
            grown(ground.bytes, self.ground.bytes, &self.disk.0, self.usage.bytes, self.limits.disk_bytes)
                || grown(
                    ground.files,
                    self.ground.files,
                    &self.disk.1,
                    self.usage.files,
                    self.limits.disk_files,
                );
        if !self.disk_beat.is_due(Instant::now(), alarmed) {
            return None;
        }
        self.ground = ground;
        let processes = self.family.members().into_iter().map(|(p, _)| p).collect();
        Some((self.places.clone(), processes))
    }

    /// Evaluates a measurement of the disk, and kills what must be killed.
    fn measured_disk(&mut self, usage: Usage, since: Instant) {
        self.usage = usage;
        if self.usage.too_deep {
            // What cannot be measured counts as over the limit.
            match self.limits.disk_files {
                0 => self.usage.bytes = self.usage.bytes.max(self.limits.disk_bytes.saturating_add(1)),
                limit => self.usage.files = self.usage.files.max(limit.saturating_add(1)),
            }
        }
        self.disk_beat.took(since);
        let sentence = self.disk.0.judge(self.usage.bytes).max(self.disk.1.judge(self.usage.files));
        let ended = self.end(sentence);
        for (kind, used, limit) in [
            (LimitKind::DiskBytes, self.usage.bytes, self.limits.disk_bytes),
            (LimitKind::DiskFiles, self.usage.files, self.limits.disk_files),
        ] {
            if ended && limit > 0 && used > limit {
                self.see(kind, used, limit, true);
            }
        }
    }

    fn write(&mut self) {
        let report = LimitReport { limits: self.words.clone(), reached: self.reached.list() };
        if self.written.as_ref() != Some(&report) && write_json(&self.file, &report).is_ok() {
            self.written = Some(report);
        }
    }
}

/// Measures the disk, if that is due, without holding the lock.
fn check_disk(watch: &Mutex<Watch>, measure: impl Fn(&[PathBuf], &[ProcessRef]) -> Usage) {
    let lock = || foundry_core::lock(watch);
    let Some((places, processes)) = lock().disk_is_due() else { return };
    let start = Instant::now();
    let usage = measure(&places, &processes);
    let mut watch = lock();
    watch.measured_disk(usage, start);
    watch.evaluate();
}

fn threads(members: &[Member]) -> u64 {
    members.iter().map(|(_, s)| s.threads).sum()
}

/// Processes and threads of the whole host, from one short file.
fn host_tasks() -> u64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let tasks = text.split(' ').nth(3).and_then(|t| t.split_once('/')?.1.parse().ok());
    tasks.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_rarely_what_is_dear_to_measure_and_sooner_when_alarmed() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let beat = |cost: u64| Beat {
            done: start,
            cost: Duration::from_millis(cost),
            least: Duration::from_millis(500),
        };
        assert!(!beat(1).is_due(at(499), false) && beat(1).is_due(at(500), false));
        assert!(!beat(1_000).is_due(at(19_999), false) && beat(1_000).is_due(at(20_000), false));
        assert!(beat(1_000).is_due(at(4_000), true) && !beat(1_000).is_due(at(3_999), true));
        assert!(beat(60_000).is_due(at(120_000), false), "never later than two minutes");
    }

    #[test]
    fn looks_at_processes_while_a_measurement_of_the_disk_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let own = std::process::id().cast_signed();
        let family = Family { own, child: own, main: own, bubblewrap: false, group: None };
        let limits = Limits { disk_bytes: 10, ..Limits::default() };
        let file = dir.path().join("limits.json");
        let watch = Watch::new(&limits, family, vec![dir.path().to_owned()], file, String::new());
        let watch = Mutex::new(watch);
        watch.lock().unwrap().disk_beat = Beat::new(Instant::now(), Duration::ZERO);
        let seen = std::cell::Cell::new(false);
        check_disk(&watch, |_, _| {
            seen.set(true);
            // As the other thread does, which must not be blocked by this.
            watch.try_lock().expect("free while the disk is measured").check();
            Usage { bytes: 11, ..Usage::default() }
        });
        assert!(seen.get());
        let reached = watch.lock().unwrap().reached.list();
        assert_eq!((reached.len(), reached[0].kind), (1, LimitKind::DiskBytes));
    }

    #[test]
    fn tells_what_a_group_of_version_2_has_counted_since_the_start_and_nothing_before() {
        let dir = tempfile::tempdir().unwrap();
        let set = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let counted = |refused: u64, killed: u64| {
            set("pids.events", &format!("max {refused}\n"));
            set("memory.events", &format!("oom {killed}\noom_kill {killed}\noom_group_kill 0\n"));
        };
        set("pids.current", "9\n");
        set("memory.current", "4096\n");
        counted(5, 2);
        let group = Some(Group::Unified { dir: dir.path().to_owned(), cpu: false });
        let own = std::process::id().cast_signed();
        let family = Family { own, child: own, main: own, bubblewrap: false, group: group.clone() };
        let limits = Limits { processes: 200, memory_bytes: Some(1 << 20), ..Limits::none() };
        let file = dir.path().join("limits.json");
        let mut watch = Watch::new(&limits, family, Vec::new(), file, String::new());
        watch.evaluate();
        assert!(watch.reached.list().is_empty() && !watch.pulse.memory_ended(group.as_ref()));
        counted(6, 3);
        assert!(watch.pulse.memory_ended(group.as_ref()), "at once, without a check");
        watch.evaluate();
        let reported: Vec<_> = watch.reached.list().into_iter().map(|r| (r.kind, r.used, r.ended)).collect();
        assert!(reported.contains(&(LimitKind::Processes, 9, false)), "{reported:?}");
        assert!(reported.contains(&(LimitKind::Memory, 1 << 20, true)), "{reported:?}");
    }
}
