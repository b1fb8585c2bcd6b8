//! Stands in for `foundry internal …` of the real binary, for the integration tests of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((first, rest)) if first == "internal" && !rest.is_empty() => match rest[0].as_str() {
            "demo-agent" => demo_agent(),
            // Exit codes of processes are one byte wide.
            name => {
                let code = foundry_sandbox_local::run_internal(name, &rest[1..]);
                ExitCode::from(
                    code.or_else(|| foundry_runtime::run_internal(name, &rest[1..])).unwrap_or(64) as u8
                )
            }
        },
        _ => ExitCode::from(64),
    }
}

fn demo_agent() -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(foundry_demo_agent::run_stdio()),
        Err(_) => ExitCode::from(70),
    }
}
