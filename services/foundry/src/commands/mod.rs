//! One command group per file.

mod agents;
mod attachment;
mod files;
mod follow;
pub mod internal;
pub mod login;
mod mesh;
mod model;
mod profile;
mod repo;
mod sandbox;
mod secret;
mod session;
mod task;
mod token;

use std::process::ExitCode;

use clap::CommandFactory as _;
use foundry_provisioner::FurtherProviders;

use crate::cli::{Cli, Command};
use crate::client::Gateway;
use crate::failure::Failure;

/// Runs one command.
///
/// # Errors
/// The command's failure, with its exit code.
pub async fn run(cli: Cli, further: FurtherProviders) -> Result<ExitCode, Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Up { keys_from_env } => mesh::up(global, keys_from_env, further).await,
        Command::Serve { service } => mesh::serve(global, service, further).await,
        Command::Config => mesh::print_config(global),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "foundry", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Login { login, web: true } => login::print_link(global, login),
        Command::Login { login, web: false } => login::run(global, login).await,
        Command::Token(command) => token::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Repo(command) => repo::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Task(command) => task::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Session(command) => session::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Sandbox(command) => sandbox::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Model(command) => model::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Profile(command) => profile::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Attachment(command) => {
            attachment::run(&Gateway::signed_in(global)?, global.output, command).await
        }
        Command::Agents => agents::run(&Gateway::signed_in(global)?, global.output).await,
    }
}

/// The text itself, or the content of standard input for `-`.
///
/// # Errors
/// When standard input cannot be read as text.
pub fn text_or_stdin(text: String) -> Result<String, Failure> {
    if text == "-" { Ok(std::io::read_to_string(std::io::stdin())?) } else { Ok(text) }
}
