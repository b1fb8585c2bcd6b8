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

/// Many small values live from call to call on other threads. With jemalloc, 64 clients create about a fifth more tasks in a
/// second than with the system's allocator; `docs/bench.md` says how to measure it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Runs the program with the arguments of this process. `further` creates additional sandbox providers; the product
/// itself passes [`no_further_providers`].
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
    // A thread that is blocked on reading a terminal must not delay the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Adds no sandbox providers to the product's own.
pub use foundry_provisioner::no_further_providers;
