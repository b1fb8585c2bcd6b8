//! The `foundry` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    foundry::run(foundry::no_further_providers())
}
