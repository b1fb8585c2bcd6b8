//! The model gateway: agents in sandboxes call models through it, so that no model key enters a sandbox.
//!
//! An agent has a base URL and a token that is worthless elsewhere. The gateway asks its [`Ledger`] whom the token
//! stands for, puts the provider's key in its place and passes the call on, byte for byte and unbuffered. On the side it
//! counts usage and tells what the answer means ([`ModelCondition`]). It holds no database and decides nothing that the
//! ledger could decide.

mod access;
mod answer;
mod bodies;
mod call;
mod classify;
mod condition;
mod gate;
mod gateway;
mod include_usage;
mod lines;
mod probe;
mod proof;
mod relay;
mod reports;
mod route;
mod secret;
mod serve;
mod shape;
mod upstream;
mod usage;
mod when;

pub use access::{Access, Credential, Kind, Ledger, Limit, ModelPrice, Owner, Refused, Unit, Usage};
pub use condition::{ConditionKind, ModelCondition, Unreached};
pub use gateway::{Gateway, Settings};
pub use probe::{ProbeFailure, ProbeOk, ProbeStep, probe};
pub use proof::{HEADER as SANDBOX_HEADER, SandboxProof};
pub use secret::Secret;
pub use serve::Listener;

/// What can go wrong in a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer.
pub type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BoxError>;
