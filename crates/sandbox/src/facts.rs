//! What is known about a sandbox and its runtime: facts the ledger stores and any process can act on.

use std::fmt;
use std::path::PathBuf;

use foundry_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Network, RuntimeKey, SandboxName};

/// How a sandbox is isolated from its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Isolation {
    /// bubblewrap: own mounts, own process ids, no capabilities.
    Bubblewrap {
        /// The output of `bwrap --version`.
        version: String,
        /// The unprivileged user inside; none = the host's own user in a user namespace.
        uid: Option<u32>,
    },
    /// A plain process of the host's user: the agent sees what that user sees.
    None {
        /// Why there is no isolation, shown to users.
        reason: String,
    },
}

impl Isolation {
    /// Whether the sandbox has its own mounts and process ids.
    pub fn is_bubblewrap(&self) -> bool {
        matches!(self, Self::Bubblewrap { .. })
    }
}

/// A running runtime: enough to reach, adopt or end it, by any process, after any restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeFacts {
    /// The sandbox it belongs to.
    pub sandbox: SandboxName,
    /// Which start of the runtime this is; events are stored under it.
    pub runtime_instance: String,
    /// The key of this start; worthless elsewhere. Absent in the facts of a runtime of an older version,
    /// which is not adopted.
    #[serde(default)]
    pub key: RuntimeKey,
    /// HOME as the sandbox sees it.
    pub home: PathBuf,
    /// The work tree as the sandbox sees it.
    pub workspace: PathBuf,
    /// How it is isolated from its host.
    pub isolation: Isolation,
    /// What it may reach; the host's network in the facts of an older version.
    #[serde(default)]
    pub network: Network,
    /// The runtime's address in the provider's own form; opaque to everyone else.
    #[serde(default)]
    pub place: serde_json::Value,
}

/// Why a runtime has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DeathCause {
    /// The machine was rebooted since.
    MachineRebooted,
    /// The process ended with this code; 128 + n means signal n inside the sandbox.
    Exited {
        /// The exit code, as a shell would report it.
        code: i32,
    },
    /// The process was killed by this signal.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// The process was killed because the sandbox had used up its memory.
    OutOfMemory,
    /// The process is gone and nothing recorded how.
    Gone,
    /// Another process has its pid now.
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
            Self::OutOfMemory => {
                f.write_str("the runtime was killed because the sandbox reached its memory limit")
            }
            Self::Gone => f.write_str("the runtime's process is gone"),
            Self::PidRecycled => {
                f.write_str("the runtime's process is gone and its pid belongs to another process")
            }
            Self::DirectoryMissing => f.write_str("the sandbox's directory is gone"),
        }
    }
}

/// The result of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// The runtime answers and proves that it is the one of these facts.
    Alive,
    /// The runtime has ended for good.
    Dead {
        /// Why it has ended.
        cause: DeathCause,
    },
    /// It may be alive, but does not answer: probe again.
    Unknown {
        /// The error of the probe.
        reason: String,
    },
}

/// The result of `allocate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// The name of the allocated sandbox.
    pub sandbox: SandboxName,
    /// When it was first allocated.
    pub allocated_at: Timestamp,
    /// How it will be isolated from its host.
    pub isolation: Isolation,
    /// What it may reach.
    pub network: Network,
}

/// The result of the clone source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClonedRepo {
    /// The commit that the work is based on.
    pub head: String,
    /// The branch that is checked out; empty = detached.
    pub branch: String,
    /// Settings for git in the whole sandbox; none in the record of an older version.
    #[serde(default)]
    pub git: Option<GitSettings>,
}

/// Settings for git in a whole sandbox, besides those of the clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitSettings {
    /// The name that the agent commits under in any repository.
    pub name: String,
    /// The e-mail address that goes with it.
    pub email: String,
    /// The URL of `origin` in the clone. Inside the sandbox it stands for the address from which the forwarder serves
    /// the repository; ends with a slash, so that it is no part of another repository's URL.
    pub origin: String,
    /// Organization and repository in that address, as `ORGANIZATION/REPOSITORY`.
    pub repository: String,
    /// Whether the sandbox has `git lfs`, so that files of LFS are checked out with their content.
    #[serde(default)]
    pub lfs: bool,
}

/// The result of `prepare_repo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedRepo {
    /// What was cloned.
    pub cloned: ClonedRepo,
    /// The work tree as the sandbox sees it.
    pub workspace: PathBuf,
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
    /// The name under which it was allocated.
    pub name: SandboxName,
    /// When it was allocated; none = the record is unreadable.
    pub allocated_at: Option<Timestamp>,
    /// The last runtime started in it, if any; probe it before relying on it.
    pub runtime: Option<RuntimeFacts>,
}
