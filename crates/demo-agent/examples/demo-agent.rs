//! The demo agent as a program of its own, for tests of how it ends.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    foundry_demo_agent::run_stdio().await
}
