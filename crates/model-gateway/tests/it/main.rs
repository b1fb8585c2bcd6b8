//! The model gateway with real connections: what passes, what is refused, what is counted.

#![allow(clippy::expect_used, clippy::unwrap_used)] // tests and their helpers fail by panicking

mod conditions;
mod mcp;
mod passing;
mod probe;
mod secrets;
mod sockets;
mod support;
mod usage;
