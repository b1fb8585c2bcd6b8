//! The local provider with the real runtime, by both transports: over a unix socket with access to the sandbox's
//! directory, as in the product, and over TCP with nothing but HTTP, as for a runtime elsewhere.
#![allow(clippy::unwrap_used)] // tests

mod common;
mod isolation;
mod lifecycle;
mod limits;
mod network;
mod tap;
