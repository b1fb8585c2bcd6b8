//! Tests of the whole mesh from its users' point of view: the real binary, real sockets, real Git, a real sandbox
//! runtime. Everything is observed through gRPC and the command line. Processes are killed only by ids that this crate
//! got when it started them.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test harness: a failure here is a failed test

pub mod acknowledged_writes;
pub mod agents;
pub mod caller;
pub mod counters;
pub mod fault_proxy;
pub mod faults;
pub mod killing;
pub mod mcp_server;
pub mod mesh;
pub mod origin;
pub mod sandboxes;
pub mod seeded_rng;
pub mod services;
pub mod stages;
pub mod story;
pub mod transcript_summary;
pub mod watching;

pub use caller::Caller;
pub use mcp_server::McpServer;
pub use mesh::{Mesh, Shape};
pub use origin::Origin;
pub use services::services;
