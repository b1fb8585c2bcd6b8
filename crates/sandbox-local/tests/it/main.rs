//! The local provider with the real runtime, by both transports: as the product runs it, over a unix socket
//! with the sandbox's directory at hand, and over TCP with nothing but HTTP, as a runtime elsewhere would be.
#![allow(clippy::unwrap_used)] // tests

mod common;
mod isolation;
mod lifecycle;
mod limits;
mod network;
mod tap;
