//! `foundry up`, `foundry serve` and `foundry config`.

use std::path::PathBuf;
use std::process::ExitCode;

use foundry_provisioner::FurtherProviders;

use crate::cli::Global;
use crate::failure::Failure;
use crate::mesh::{self, MeshService, config};
use crate::output;

/// Runs the whole mesh in this process.
///
/// # Errors
/// The reason why it could not start.
pub async fn up(
    global: &Global,
    keys_from_env: bool,
    further: FurtherProviders,
) -> Result<ExitCode, Failure> {
    let keys = mesh::ModelKeys::read(keys_from_env, |name| std::env::var(name).ok())?;
    Box::pin(mesh::up(config::load(global)?.value, config::data_dir(global)?, keys, further)).await
}

/// Runs one service in this process.
///
/// # Errors
/// The reason why it could not start.
pub async fn serve(
    global: &Global,
    service: MeshService,
    further: FurtherProviders,
) -> Result<ExitCode, Failure> {
    Box::pin(mesh::serve(config::load(global)?.value, config::data_dir(global)?, service, further)).await
}

/// Prints the effective configuration with the origin of each value, secrets masked.
///
/// # Errors
/// When the configuration is invalid.
pub fn print_config(global: &Global) -> Result<ExitCode, Failure> {
    let loaded = config::load(global)?;
    let text = foundry_server::config::effective(&loaded).map_err(|e| Failure::new(e.to_string()))?;
    output::line(&format!("# data directory: {}", config::data_dir(global)?.display()));
    output::part(&text);
    Ok(ExitCode::SUCCESS)
}

/// The data directory of the mesh.
///
/// # Errors
/// As [`config::data_dir`].
pub fn data_dir(global: &Global) -> Result<PathBuf, Failure> {
    config::data_dir(global)
}
