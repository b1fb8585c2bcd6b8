//! The engine against the real git, on repositories made for each test; no network.

// Clippy's exception for tests does not reach the functions that the tests share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod adopting;
mod bundles;
mod clones;
mod diffs;
mod lab;
mod limits;
mod merged;
mod mirrors;
mod notices;
mod publishing;
mod replay;
mod rounds;
mod serving;
mod sources;
mod trees;
mod work;
