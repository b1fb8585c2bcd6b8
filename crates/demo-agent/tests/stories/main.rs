//! The demo agent driven as a client drives it: real JSON lines over in-memory pipes.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test client fails by panicking

mod client;
mod commands;
mod edits;
mod permissions;
mod protocol;
mod settings;
mod words;
