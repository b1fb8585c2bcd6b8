//! The mesh: its configuration, and its services wired in one process or each in its own.

pub mod config;
mod hooks;
mod model_keys;
mod services;
mod run;
mod wiring;

pub use model_keys::ModelKeys;
pub use run::{serve, up};
