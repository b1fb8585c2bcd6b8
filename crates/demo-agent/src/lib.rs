//! The demo agent: a small coding agent without a model, so that a first-time user, the demo and
//! the tests need no credentials. It speaks the Agent Client Protocol (version 1) over
//! newline-delimited JSON, understands the plain words of `docs/demo-agent.md`, and really edits
//! files and runs commands in its session's working directory. The same prompt on the same tree
//! gives the same updates: every id is a counter.
//!
//! The messages are the types of the official crate `agent-client-protocol`; the connection loop
//! is ours ([`run`]), because that crate's own one draws random request ids, queues output without
//! bound and ends the connection at the first line that is not UTF-8.

mod agent;
mod command;
mod options;
mod phrases;
mod session;
mod settings;
mod steps;
mod tool;
mod turn;
mod vocabulary;
mod wire;
mod workspace;

pub use agent::{Ended, run, run_stdio};
pub use options::DemoOptions;

/// The name the agent gives itself in `initialize`.
pub const AGENT_NAME: &str = "foundry-demo-agent";
