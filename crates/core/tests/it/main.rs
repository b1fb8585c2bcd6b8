//! Laws of the repository that are checked in the text of its sources.
// Clippy's exception for tests does not reach the functions that the tests share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod error_pages;
mod migrations;
mod ops;
mod source;
