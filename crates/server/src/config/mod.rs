//! Layered configuration: defaults, then a TOML file, then `FOUNDRY_…` variables, then flags.

pub mod duration;
mod effective;
mod load;
mod secret;
mod sections;
#[cfg(test)]
mod tests;
mod tree;

pub use effective::effective;
pub use load::{ConfigError, Layers, Loaded};
pub use secret::Secret;
pub use sections::{
    AdminConfig, DrainConfig, Limits, LogFormat, MeshTlsFiles, ServerConfig, TelemetryConfig, TlsFiles,
};
