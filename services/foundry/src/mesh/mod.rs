//! The mesh: its configuration, and its services wired together in one process or in one process each.

pub mod config;
pub mod databases;
mod directory;
mod hooks;
mod model_keys;
mod run;
mod services;
mod wiring;

pub use model_keys::ModelKeys;
pub use run::{serve, up};
pub use services::{MeshService, SERVICES};
