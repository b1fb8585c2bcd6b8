//! The mesh: its configuration, and its services wired in one process or each in its own.

pub mod config;
mod hooks;
mod parts;
mod run;
mod wiring;

pub use run::{serve, up};
