//! The processes that an agent started, by every sign that tells them.

use std::fs;

use foundry_sandbox::process::{Mark, ProcessRef, Stat, descendants, stat};
use foundry_sandbox::wire::AGENT_VARIABLE;
use foundry_sandbox::{AcpId, Presence, SandboxName};

use crate::listing::all;

/// How the processes of one agent are told from all others.
#[derive(Clone, Debug)]
pub(crate) struct Kin {
    /// The agent's own process, leader of its session.
    agent: ProcessRef,
    marks: [String; 2],
    /// Those seen so far: one whose parent ends loses its descent.
    seen: Vec<ProcessRef>,
}

impl Kin {
    pub fn of(agent: ProcessRef, acp: &AcpId, sandbox: &SandboxName) -> Self {
        let marks = [format!("{AGENT_VARIABLE}={acp}"), format!("{}={sandbox}", Mark::VARIABLE)];
        Self { agent, marks, seen: Vec::new() }
    }

    /// Those that live now, the agent itself included.
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

    /// Those of the agent's own session that live now.
    pub fn session(&self) -> Vec<ProcessRef> {
        self.others().filter(|(_, stat)| self.is_of_session(stat)).map(|(process, _)| process).collect()
    }

    /// Everything but the machine's first process and this one.
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

    /// A later session of the same number has a leader that started later, and so have its members; the
    /// number is not given to another process while a member of this session lives.
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
