//! The processes of a sandbox as its supervisor sees them, and which of them are killed first.

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use foundry_sandbox::ProcessRef;
use foundry_sandbox::process::{Stat, family, stat};

use super::Group;
use super::judge::Sentence;

/// How long kills are repeated before the next measurement.
const PURSUIT: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(10);

/// A process with the kernel's data on it.
pub(crate) type Member = (ProcessRef, Stat);

/// The known processes, from which the others are found.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// Pid of the supervisor.
    pub own: i32,
    /// Pid of what it started: bwrap, or the runtime itself.
    pub child: i32,
    /// Pid of the first process of the pid namespace, or of the runtime itself.
    pub main: i32,
    /// Whether the sandbox runs in bwrap.
    pub bubblewrap: bool,
    pub group: Option<Group>,
}

impl Family {
    /// All living processes except the supervisor.
    pub fn members(&self) -> Vec<Member> {
        match &self.group {
            Some(group) => {
                let lives = |s: &Stat| !s.is_dead();
                group
                    .members()
                    .into_iter()
                    .filter_map(|p| stat(p.pid).filter(lives).map(|s| (p, s)))
                    .collect()
            }
            None => family(self.own),
        }
    }

    /// The runtime: everything in the pid namespace comes from it, so nothing else there can be older.
    fn runtime(&self, members: &[Member]) -> Option<i32> {
        if !self.bubblewrap {
            return Some(self.main);
        }
        let children = members.iter().filter(|(_, s)| s.parent == self.main);
        children.min_by_key(|(p, s)| (s.start_time_ticks, p.pid)).map(|(p, _)| p.pid)
    }

    /// The processes that a sentence spares.
    fn spared(&self, members: &[Member], sentence: Sentence) -> HashSet<i32> {
        let mut spared = HashSet::from([self.own, self.child, self.main]);
        let Some(runtime) = self.runtime(members) else { return spared };
        spared.insert(runtime);
        if sentence < Sentence::AllButRuntime {
            // Agents, and the parents of commands.
            spared.extend(members.iter().filter(|(_, s)| s.parent == runtime).map(|(p, _)| p.pid));
        }
        spared
    }

    /// Kills the processes of the sentence; true if there were any.
    pub fn end(&self, sentence: Sentence) -> bool {
        if sentence == Sentence::Spare {
            return false;
        }
        let until = Instant::now() + PURSUIT;
        let mut any = false;
        loop {
            let members = self.members();
            let spared = self.spared(&members, sentence);
            let condemned: Vec<_> = members.iter().filter(|(p, _)| !spared.contains(&p.pid)).collect();
            if condemned.is_empty() || Instant::now() >= until {
                return any;
            }
            any = true;
            for (process, _) in condemned {
                // It may have exited in the meantime.
                let _ = process.kill();
            }
            pause(STEP);
        }
    }

    /// Kills the process with the most memory, but never the runtime; true if there was one.
    pub fn end_largest(&self, members: &[Member]) -> bool {
        let spared = self.spared(members, Sentence::AllButRuntime);
        let others = members.iter().filter(|(p, _)| !spared.contains(&p.pid));
        others.max_by_key(|(_, s)| s.rss_pages).is_some_and(|(p, _)| p.kill().unwrap_or(false))
    }
}

/// The memory of these processes in bytes. Shared memory is counted once where the kernel reports it, which is read
/// only when the sum is above `limit`.
pub(crate) fn memory(members: &[Member], limit: u64) -> u64 {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
    let resident = |s: &Stat| u64::try_from(s.rss_pages).unwrap_or(0) * page;
    let sum = members.iter().map(|(_, s)| resident(s)).sum();
    if sum <= limit {
        return sum;
    }
    let share = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let kib = text
            .lines()
            .find_map(|l| l.strip_prefix("Pss:")?.split_ascii_whitespace().next()?.parse::<u64>().ok());
        kib.map(|k| k * 1_024)
    };
    members.iter().map(|(p, s)| share(p.pid).unwrap_or_else(|| resident(s))).sum()
}

/// Sleeps, in a process without an async runtime.
#[allow(clippy::disallowed_methods)] // the supervisor is a process of its own
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(pid: i32, parent: i32, start: u64) -> Member {
        let process = ProcessRef { pid, start_time_ticks: start, boot_id: String::new() };
        let stat = Stat {
            state: b'S',
            parent,
            session: 0,
            start_time_ticks: start,
            cpu_ticks: 0,
            rss_pages: 0,
            threads: 1,
        };
        (process, stat)
    }

    #[test]
    fn spares_the_runtime_whatever_orphans_stand_beside_it() {
        let family = Family { own: 10, child: 11, main: 12, bubblewrap: true, group: None };
        // The pids of an orphan may be lower than the runtime's: pids wrap around.
        let members = [
            member(11, 10, 1),
            member(12, 11, 1),
            member(20, 12, 2),
            member(5, 12, 9),
            member(30, 20, 3),
            member(31, 30, 4),
        ];
        let spared = |sentence| {
            let mut all: Vec<i32> = family.spared(&members, sentence).into_iter().collect();
            all.sort_unstable();
            all
        };
        assert_eq!(spared(Sentence::Commands), [10, 11, 12, 20, 30], "30 is an agent");
        assert_eq!(spared(Sentence::AllButRuntime), [10, 11, 12, 20]);
    }
}
