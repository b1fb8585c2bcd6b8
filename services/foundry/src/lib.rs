//! `foundry`: the mesh in one process (`up`), one service of it (`serve`), and the command line.

mod cli;
mod client;
mod commands;
mod credentials;
mod failure;
mod mesh;
mod output;

use std::process::ExitCode;

use clap::Parser as _;
pub use foundry_provisioner::FurtherProviders;

/// The whole program, on the arguments of this process. `further` makes sandbox providers besides the
/// product's own: [`no_further_providers`] in the product.
pub fn run(further: FurtherProviders) -> ExitCode {
    if let Some(code) = commands::internal::run_if_named() {
        return code;
    }
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: the runtime could not start: {e}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(commands::run(cli, further));
    // Blocking reads of a terminal must not hold the process back.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Only the product's own sandbox providers.
pub use foundry_provisioner::no_further_providers;
