//! The engine against the real git, on repositories made for each test; no network.

mod bundles;
mod clones;
mod diffs;
mod lab;
mod limits;
mod mirrors;
mod trees;
mod work;
