//! The whole mesh, used as its users do: real processes, real clients, real agents.
//!
//! Each test needs a process of its own, as some change process limits: `cargo nextest run --workspace`.

#![allow(clippy::expect_used, clippy::unwrap_used)] // tests and their support code fail by panicking

mod agents;
mod attachments;
mod bases;
mod clients;
mod counters;
mod crash;
mod disconnects;
mod drain;
mod existing_branches;
mod fetching;
mod hanging_provider;
mod hostile_input;
mod limits;
mod models;
mod namespace;
mod private_sources;
mod publishing;
mod pull_requests;
mod restacking;
mod sandbox_origin;
mod start;
mod story;
mod tenants;
mod watches;
mod webhooks;
mod work;
