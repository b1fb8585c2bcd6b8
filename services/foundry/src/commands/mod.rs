//! One command group per file.

mod action;
mod agents;
mod attachment;
mod certificates;
mod checks;
mod credential;
mod fetch;
mod files;
mod fix;
mod follow;
pub mod internal;
mod jobs;
pub mod login;
mod logins;
mod logout;
mod losing;
mod mesh;
mod model;
mod names;
mod offers;
mod profile;
mod publish;
mod rebuild;
mod repo;
mod review;
mod sandbox;
mod secret;
mod session;
mod task;
mod token;
mod verify;
mod webhook;
mod whoami;

use std::io::Read as _;
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
    let address = cli.global.address.clone();
    Box::pin(run_command(cli, further)).await.map_err(|failure| failure.at(&address))
}

async fn run_command(cli: Cli, further: FurtherProviders) -> Result<ExitCode, Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Up { keys_from_env } => mesh::up(global, keys_from_env, further).await,
        Command::Serve { service } => mesh::serve(global, service, further).await,
        Command::Certificates { directory, host } => certificates::run(&directory, host),
        Command::Config => mesh::print_config(global),
        Command::Verify => verify::run(global).await,
        Command::Rebuild => rebuild::run(global).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "foundry", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Login(how) => login::run(global, how).await,
        Command::Logout => logout::run(global).await,
        Command::Whoami => whoami::run(&Gateway::signed_in(global)?, global).await,
        Command::Logins(command) => logins::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Token(command) => token::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Repo(command) => repo::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Task(command) => task::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Session(command) => {
            Box::pin(session::run(&Gateway::signed_in(global)?, global.output, command)).await
        }
        Command::Sandbox(command) => sandbox::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Model(command) => model::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Profile(command) => profile::run(&Gateway::signed_in(global)?, global.output, command).await,
        Command::Attachment(command) => {
            attachment::run(&Gateway::signed_in(global)?, global.output, command).await
        }
        Command::Agents => agents::run(&Gateway::signed_in(global)?, global.output).await,
    }
}

/// Most bytes that are read from standard input; the services' own limits are lower.
const MAX_INPUT: u64 = 1 << 20;

/// The text itself, or the content of standard input for `-`.
///
/// # Errors
/// When standard input cannot be read as text, or has more than 1 MiB.
pub fn text_or_stdin(text: String) -> Result<String, Failure> {
    if text == "-" { read_text(std::io::stdin()) } else { Ok(text) }
}

fn read_text(from: impl std::io::Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    from.take(MAX_INPUT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_INPUT {
        return Err(Failure::new(format!("standard input has more than {MAX_INPUT} bytes")).exit(2));
    }
    String::from_utf8(bytes).map_err(|_| Failure::new("standard input is not UTF-8 text").exit(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_without_end_or_of_bytes_is_refused() {
        assert_eq!(read_text("fix\n".as_bytes()).unwrap(), "fix\n");
        assert!(read_text(std::io::repeat(b'a')).is_err());
        assert!(read_text(&[0xff][..]).is_err());
    }
}
