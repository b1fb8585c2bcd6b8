//! One conformance suite for all backends.
#![allow(clippy::unwrap_used, clippy::expect_used)] // tests

mod backends;
mod commits;
