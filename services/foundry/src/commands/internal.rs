//! Programs that the mesh itself runs inside and around sandboxes: `foundry internal NAME ARGUMENTS…`.
//!
//! Parsed by hand and before anything else: they must start fast, and some must run before any thread exists.

use std::process::ExitCode;

/// Runs an internal command, if the arguments of the process name one.
pub fn run_if_named() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != "internal" {
        return None;
    }
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    if name == "demo-agent" {
        return Some(demo_agent());
    }
    let code = foundry_sandbox_local::run_internal(&name, &rest)
        .or_else(|| foundry_runtime::run_internal(&name, &rest));
    Some(match code {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => {
            eprintln!("error: unknown internal command {name:?}");
            ExitCode::from(2)
        }
    })
}

fn demo_agent() -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(foundry_demo_agent::run_stdio()),
        Err(e) => {
            eprintln!("error: the runtime could not start: {e}");
            ExitCode::FAILURE
        }
    }
}
