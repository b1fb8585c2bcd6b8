//! The contract between the provisioner, the places where sandboxes live, and the runtime inside every
//! sandbox: the [`Provider`] trait and the [`Sandbox`] handle it opens, the facts that a ledger stores, the
//! record format of the tap log, the wire types of the runtime, and the Agent Client Protocol as it is read
//! from a log. No HTTP, no processes, no database.
//!
//! The runtime is `foundry-runtime`, its client `foundry-runtime-client`, the local provider
//! `foundry-sandbox-local`.

pub mod acp;
mod agents;
pub mod beneath;
mod error;
mod facts;
pub mod key;
pub mod limits;
pub mod listing;
mod name;
mod network;
mod open;
mod peer;
pub mod process;
mod provider;
pub mod tap;
mod unproved;
pub mod wire;

pub use agents::{AgentInstall, InstalledAgent};
pub use error::{Class, ProviderError};
pub use facts::{
    Allocation, ClonedRepo, DeathCause, Destroyed, GitSettings, Health, Isolation, OwnedSandbox,
    PreparedRepo, RuntimeFacts,
};
pub use key::RuntimeKey;
pub use limits::{LimitKind, LimitReport, ReachedLimit};
pub use listing::{MAX_PROCESSES, Process, ProcessListing, checked_listing};
pub use name::{AcpId, SandboxName};
pub use network::{Allowed, BadRule, Claim, Network, NetworkSetting, PROXY_PORT, Rule, Rules, is_host_name};
pub use open::{Connection, LogStretch, Sandbox};
pub use peer::{Peer, Share, Shares};
pub use process::{Presence, ProcessRef};
pub use provider::{CloneFuture, CloneSource, Progress, Provider, StartSpec};
pub use tap::{Direction, TapBatch, TapBody, TapCursor, TapEvent, TapReadError, TapReader};
pub use unproved::Unproved;
