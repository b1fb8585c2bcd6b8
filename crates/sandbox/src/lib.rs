//! Sandboxes and the agents in them: a small provider trait with the local provider behind it, the
//! client of the runtime inside every sandbox (sandbox-agent), and the tap that records every message
//! between runtime and agent. No database and no gRPC: the provisioner service builds on this.
//!
//! Entry points: [`Provider`] and [`LocalProvider`] make sandboxes, [`RuntimeClient`] talks to the
//! runtime, and [`run_internal`] holds the hidden subcommands of the `foundry` binary.

pub mod acp;
mod agents;
mod beneath;
mod client;
mod conversation;
mod error;
mod exec;
mod facts;
mod launch;
mod listing;
mod local;
mod name;
mod process;
mod provider;
mod tap;
mod tools;

pub use agents::{AgentCredentials, AgentKind};
pub use beneath::copy_out;
pub use client::{
    AcpServer, AgentStatus, ClientError, ExecOutput, ExecSpec, Initialized, NewSession, Posted, RequestId,
    RpcError, RuntimeClient, Wakeups,
};
pub use conversation::{Conversation, Opened};
pub use error::{Class, ProviderError};
pub use facts::{
    Allocation, ClonedRepo, DeathCause, Destroyed, Health, InstalledAgent, Isolation, OwnedSandbox,
    PreparedRepo, RuntimeFacts,
};
pub use listing::{MAX_PROCESSES, Process, ProcessListing};
pub use local::{IsolationMode, LocalConfig, LocalProvider, UID_SPAN};
pub use name::{AcpId, SandboxName};
pub use process::{Presence, ProcessRef};
pub use provider::{CloneFuture, CloneSource, Provider, StartSpec};
pub use tap::{Direction, TapBatch, TapBody, TapCursor, TapEvent, TapFollower, TapReadError, TapReader};
pub use tools::{SANDBOX_AGENT_VERSION, Tools, ToolsConfig};

/// Runs `foundry internal NAME ARGUMENTS…` when NAME is one of this crate's: `launch`, `supervise`,
/// `become`, `exec`, `processes`, `tied`, `tap`. Returns the exit code, or none when the name is another's. Must be called
/// before any thread or runtime is started.
pub fn run_internal(name: &str, arguments: &[String]) -> Option<i32> {
    match name {
        "launch" => Some(launch::launch()),
        "supervise" => Some(launch::supervise()),
        "become" => Some(launch::become_user(arguments)),
        "tap" => Some(tap::run(arguments)),
        "exec" => Some(exec::run(arguments)),
        "processes" => Some(listing::run(arguments)),
        "tied" => Some(launch::tied(arguments)),
        _ => None,
    }
}
