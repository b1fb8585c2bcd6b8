//! The flow engine with a real database and a mock clock.

#![allow(clippy::unwrap_used)] // tests and their helpers fail by panicking

#[macro_use]
mod common;
mod derived;
mod engine;
mod loops;
mod proofs;
mod starts;
mod upgrade;
