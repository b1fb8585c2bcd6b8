//! The server's chassis with real connections.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // tests and their helpers fail by panicking

mod bodies;
mod connections;
mod crowded;
mod descriptors;
mod drain;
mod export;
mod readiness;
mod reflection;
mod requests;
mod support;
mod tls;
