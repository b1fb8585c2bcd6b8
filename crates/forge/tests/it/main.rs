//! The three forges against a stand-in of each, which has real Git repositories.

// Clippy's exception for tests does not reach the functions that the tests share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod apps;
mod forges;
mod openapi;
