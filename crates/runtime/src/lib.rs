//! The runtime inside a sandbox: starts agents, records every message of a conversation before passing it
//! on, runs commands, and serves HTTP/1.1 on one listener. The wire types are in `foundry_sandbox::wire`;
//! see `docs/adr/0011-the-runtime.md`.

mod accept;
mod agents;
mod auth;
mod command;
mod connect;
mod error;
mod exec;
mod files;
mod forward;
mod git_settings;
mod listing;
mod logs;
mod program;
mod reply;
mod routes;
mod say;
mod serve;
mod start;
mod tap;
mod terminals;
mod tied;
mod way_out;

/// Runs the internal subcommand `name` and returns its exit code; none when there is no such subcommand
/// here. Must be called before the process starts any thread.
pub fn run_internal(name: &str, arguments: &[String]) -> Option<i32> {
    match name {
        "runtime" => Some(start::run(arguments)),
        "tied" => Some(tied::run(arguments)),
        "connect" => Some(connect::run(arguments)),
        "exec" => Some(command::run(arguments)),
        "screen" => Some(command::run_on_terminal(arguments)),
        _ => None,
    }
}
