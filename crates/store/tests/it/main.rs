//! One conformance suite for all backends.
#![allow(clippy::unwrap_used, clippy::expect_used)] // tests

mod backends;
mod cancellation;
mod closing;
mod commits;
mod crash;
mod equivalence;
mod idempotency;
mod migrations;
mod reads;
mod retention;
mod revisions;
mod several_processes;
mod snapshots;
mod storage;
