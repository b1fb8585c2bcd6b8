//! The whole mesh, used as its users do: real processes, real clients, real agents.
//!
//! Each test needs a process of its own, as some change process limits: `cargo nextest run --workspace`.

#![allow(clippy::expect_used, clippy::unwrap_used)] // tests and their support code fail by panicking

mod agents;
mod attachments;
mod authorization;
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
mod hostile_sources;
mod lfs;
mod limits;
mod models;
mod mutual_tls;
mod namespace;
mod private_sources;
mod programs;
mod publishing;
mod pull_requests;
mod restacking;
mod revocation;
mod sandbox_origin;
mod start;
mod story;
mod watches;
mod webhooks;
mod work;
