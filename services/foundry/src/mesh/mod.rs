//! The mesh: its configuration, and its services wired in one process or each in its own.

pub mod config;
mod hooks;
mod model_keys;
mod run;
mod services;
mod wiring;

pub use model_keys::ModelKeys;
pub use run::{serve, up};
pub use services::MeshService;
