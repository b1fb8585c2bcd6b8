//! The model gateway: agents in sandboxes call models through it, so that no model key enters a sandbox.
//!
//! An agent has a base URL and a token that is worthless elsewhere. The gateway resolves the token with its [`Ledger`],
//! puts the provider's key in its place and passes the call on, byte for byte and unbuffered. On the side it counts
//! usage and reports what the answer means ([`ModelCondition`]). It has no database and leaves every decision to the
//! ledger that the ledger can make. MCP servers over HTTP are reached in the same way (`/mcp/NAME`), so that their
//! secrets stay outside, too; and so is `origin`, the repository that a sandbox fetches from (`/git/…`).

mod access;
mod answer;
mod bodies;
mod call;
mod classify;
mod condition;
mod connection_slots;
mod gate;
mod gateway;
mod git;
mod include_usage;
mod lines;
mod mcp;
mod probe;
mod proof;
mod relay;
mod reports;
mod reserve;
mod route;
mod secret;
mod serve;
mod shape;
mod silence;
mod upstream;
mod usage;
mod waits;
mod when;

pub use access::{
    Access, Credential, Kind, Ledger, Limit, McpAccess, McpRefused, ModelPrice, OriginAccess, OriginRefused,
    Owner, Refused, Unit, Usage,
};
pub use condition::{ConditionKind, ModelCondition, Unreached};
pub use foundry_secrets::Secret;
pub use gateway::{Gateway, Settings, WeakGateway};
pub use probe::{ProbeFailure, ProbeOk, ProbeStep, probe};
pub use proof::{HEADER as SANDBOX_HEADER, SandboxProof};
pub use serve::Listener;

/// An error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer.
pub type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BoxError>;
