//! The demo agent, driven as a client drives it: over in-memory pipes, and as a process of its own.

#![allow(clippy::expect_used, clippy::unwrap_used)] // tests and their helpers fail by panicking

mod client;
mod commands;
mod edits;
mod permissions;
mod process;
mod protocol;
mod settings;
mod words;
