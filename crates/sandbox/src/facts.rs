//! What is known about a sandbox and its runtime: facts the ledger stores and any process can act on.

use std::fmt;
use std::path::PathBuf;

use foundry_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::SandboxName;
use crate::process::ProcessRef;

/// How a sandbox is kept apart from its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Isolation {
    /// bubblewrap: own mounts, own process ids, no capabilities.
    Bubblewrap {
        /// What `bwrap --version` says.
        version: String,
        /// The unprivileged user inside; none = the host's own user in a user namespace.
        uid: Option<u32>,
    },
    /// A plain process of the host's user: the agent sees what that user sees.
    None {
        /// Why, to be said aloud.
        reason: String,
    },
}

impl Isolation {
    /// Whether the sandbox has its own mounts and process ids.
    pub fn is_bubblewrap(&self) -> bool {
        matches!(self, Self::Bubblewrap { .. })
    }
}

/// A running runtime (sandbox-agent): enough to reach, adopt or kill it, by any process, after any restart.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeFacts {
    /// The sandbox it belongs to.
    pub sandbox: SandboxName,
    /// Which start of the runtime this is; events are stored under it.
    pub runtime_instance: String,
    /// The process whose end is the end of the whole sandbox, as the host numbers it.
    pub pid: i32,
    /// When that process started, in clock ticks since boot: tells it from a recycled pid.
    pub start_time_ticks: u64,
    /// Which boot of the machine that was.
    pub boot_id: String,
    /// The loopback port of the runtime.
    pub port: u16,
    /// The bearer token of the runtime; random, and worthless elsewhere.
    pub token: String,
    /// HOME as the sandbox sees it.
    pub home: PathBuf,
    /// The work tree as the sandbox sees it.
    pub workspace: PathBuf,
    /// Our own binary as the sandbox sees it.
    pub foundry: PathBuf,
    /// How it is kept apart.
    pub isolation: Isolation,
}

impl RuntimeFacts {
    /// The process, with what tells it from a later one of the same number.
    pub fn process(&self) -> ProcessRef {
        ProcessRef { pid: self.pid, start_time_ticks: self.start_time_ticks, boot_id: self.boot_id.clone() }
    }
}

impl fmt::Debug for RuntimeFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Everything but the token.
        f.debug_struct("RuntimeFacts")
            .field("sandbox", &self.sandbox)
            .field("runtime_instance", &self.runtime_instance)
            .field("pid", &self.pid)
            .field("port", &self.port)
            .field("isolation", &self.isolation)
            .finish_non_exhaustive()
    }
}

/// Why a runtime is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DeathCause {
    /// The machine was started anew since.
    MachineRebooted,
    /// The process ended with this code; 128 + n means signal n inside the sandbox.
    Exited {
        /// Exit code.
        code: i32,
    },
    /// The process was killed by this signal.
    Killed {
        /// Signal number.
        signal: i32,
    },
    /// The process is gone and nothing recorded how.
    Gone,
    /// Another process has its number now.
    PidRecycled,
    /// The sandbox's directory is gone.
    DirectoryMissing,
}

impl fmt::Display for DeathCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MachineRebooted => f.write_str("the machine was restarted"),
            Self::Exited { code } if *code > 128 => {
                write!(f, "the runtime was ended by signal {}", code - 128)
            }
            Self::Exited { code } => write!(f, "the runtime exited with code {code}"),
            Self::Killed { signal } => write!(f, "the runtime was killed by signal {signal}"),
            Self::Gone => f.write_str("the runtime's process is gone"),
            Self::PidRecycled => {
                f.write_str("the runtime's process is gone and its number belongs to another")
            }
            Self::DirectoryMissing => f.write_str("the sandbox's directory is gone"),
        }
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// The process lives and its server answers our token.
    Alive,
    /// It will not come back by itself.
    Dead {
        /// Why.
        cause: DeathCause,
    },
    /// The process lives, but its server does not answer: ask again.
    Unknown {
        /// What was seen.
        reason: String,
    },
}

/// The result of `allocate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// The sandbox.
    pub sandbox: SandboxName,
    /// When it was first allocated.
    pub allocated_at: Timestamp,
    /// How it will be kept apart.
    pub isolation: Isolation,
}

/// What the clone source made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClonedRepo {
    /// The commit that is checked out.
    pub head: String,
    /// The branch that is checked out; empty = detached.
    pub branch: String,
}

/// The result of `prepare_repo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedRepo {
    /// What was cloned.
    pub cloned: ClonedRepo,
    /// The work tree as the sandbox sees it.
    pub workspace: PathBuf,
}

/// The result of `install_agent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledAgent {
    /// The agent.
    pub agent: crate::AgentKind,
    /// Version of the runtime whose slot it sits in.
    pub runtime_version: String,
}

/// Whether `destroy` found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destroyed {
    /// There was a sandbox; it is gone now.
    Removed,
    /// There was none.
    AlreadyGone,
}

/// A sandbox found on the host, for the sweeper.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedSandbox {
    /// Its name.
    pub name: SandboxName,
    /// When it was allocated; none = the record is unreadable.
    pub allocated_at: Option<Timestamp>,
    /// The last runtime started in it, if any; probe it before believing it.
    pub runtime: Option<RuntimeFacts>,
}
