//! Sign-in of callers and services through real servers.

#![allow(clippy::expect_used, clippy::unwrap_used)] // tests and their helpers fail by panicking

mod layer;
mod streams;
mod support;
mod tokens;
