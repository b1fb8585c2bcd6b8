//! The whole mesh, driven as its users drive it: real processes, real clients, real agents.
//!
//! Each test needs a process of its own (some change limits of theirs): `cargo nextest run --workspace`.

#![allow(clippy::expect_used, clippy::unwrap_used)] // tests and their helpers fail by panicking

mod agents;
mod attachments;
mod clients;
mod counters;
mod crash;
mod disconnects;
mod drain;
mod hanging_provider;
mod hostile_input;
mod limits;
mod models;
mod namespace;
mod start;
mod story;
mod tenants;
mod watches;
