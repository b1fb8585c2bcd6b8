//! The tap sits in the agent's slot, between runtime and agent. It appends every message of both
//! directions to a log beneath the sandbox's HOME before it passes it on, and passes a request id on
//! only once. See `docs/adr/0005-the-tap.md`.
//!
//! ```text
//! sandbox-agent ──stdin──► tap ──stdin──► agent        one JSON-RPC message per line
//!               ◄─stdout──  │  ◄─stdout──
//!                           ▼ append, then pass on
//!             $HOME/.foundry/tap/<agent session>.log
//! ```

mod filter;
mod lines;
mod log;
mod reader;
mod record;
mod run;

pub use reader::{TapBatch, TapBody, TapCursor, TapEvent, TapFollower, TapReadError, TapReader};
pub use record::Direction;
pub(crate) use run::run;

/// The key below `_meta` in which `initialize` carries what is for the tap only.
pub(crate) const META: &str = "foundry";
/// A notification that only ends a half-written message.
pub(crate) const RESYNC: &str = "_foundry/resync";
/// A notification that ends the agent: its input is closed, and it is killed if that is not enough.
pub(crate) const CLOSE: &str = "_foundry/close";
/// Error code of the tap: the request id was passed on before.
pub(crate) const DUPLICATE_REQUEST: i64 = -32_098;
/// Error code of the tap: the request could not be recorded, so it was not passed on.
pub(crate) const UNRECORDED_REQUEST: i64 = -32_097;
/// Where the logs are, below HOME.
pub(crate) const DIRECTORY: [&str; 2] = [".foundry", "tap"];
/// Largest message that is passed on.
pub(crate) const MAX_MESSAGE: usize = 8 << 20;
/// Largest line of a log: a message and its head.
pub(crate) const MAX_LINE: usize = MAX_MESSAGE * 2;
/// Largest log; beyond it nothing more is recorded, and the log says so.
pub(crate) const MAX_LOG: u64 = 1 << 30;
