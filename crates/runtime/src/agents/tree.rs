//! The processes of an agent: by descent, by session and by environment.

use std::fs;

use foundry_sandbox::process::{Mark, ProcessRef, Stat, descendants, stat};
use foundry_sandbox::wire::AGENT_VARIABLE;
use foundry_sandbox::{AcpId, Presence, SandboxName};

use crate::listing::all;

/// Finds the processes of one agent.
#[derive(Clone, Debug)]
pub(crate) struct ProcessTree {
    /// The agent process, leader of its session.
    agent: ProcessRef,
    marks: [String; 2],
    /// Every process found so far: an orphan is no longer found by descent.
    seen: Vec<ProcessRef>,
}

impl ProcessTree {
    pub fn of(agent: ProcessRef, acp: &AcpId, sandbox: &SandboxName) -> Self {
        let marks = [format!("{AGENT_VARIABLE}={acp}"), format!("{}={sandbox}", Mark::VARIABLE)];
        Self { agent, marks, seen: Vec::new() }
    }

    /// The living ones, the agent process included.
    pub fn living(&mut self) -> Vec<ProcessRef> {
        if self.agent.presence() == Presence::Running {
            self.see(self.agent.clone());
            for process in descendants(self.agent.pid) {
                self.see(process);
            }
        }
        for (process, stat) in self.others() {
            if self.is_of_session(&stat) || self.is_marked(process.pid) {
                self.see(process);
            }
        }
        self.seen.retain(|p| p.presence() == Presence::Running);
        self.seen.clone()
    }

    /// The living processes of the agent's session.
    pub fn session(&self) -> Vec<ProcessRef> {
        self.others().filter(|(_, stat)| self.is_of_session(stat)).map(|(process, _)| process).collect()
    }

    /// Every process but pid 1 and this one.
    fn others(&self) -> impl Iterator<Item = (ProcessRef, Stat)> + use<> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let boot_id = self.agent.boot_id.clone();
        all().into_iter().filter(move |pid| *pid > 1 && *pid != own).filter_map(move |pid| {
            let stat = stat(pid).filter(|s| !matches!(s.state, b'Z' | b'X'))?;
            let start_time_ticks = stat.start_time_ticks;
            Some((ProcessRef { pid, start_time_ticks, boot_id: boot_id.clone() }, stat))
        })
    }

    fn see(&mut self, process: ProcessRef) {
        if !self.seen.contains(&process) {
            self.seen.push(process);
        }
    }

    /// The kernel does not reuse a pid while a session of that number has members, so only a recycled
    /// leader or an older process can be a false match.
    fn is_of_session(&self, stat: &Stat) -> bool {
        stat.session == self.agent.pid
            && stat.start_time_ticks >= self.agent.start_time_ticks
            && self.agent.presence() != Presence::Recycled
    }

    fn is_marked(&self, pid: i32) -> bool {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
        let carries = |mark: &String| environment.split(|b| *b == 0).any(|entry| entry == mark.as_bytes());
        self.marks.iter().all(carries)
    }
}
