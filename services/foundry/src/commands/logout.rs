//! `foundry logout`: ends the stored session at the mesh, then forgets it.

use std::process::ExitCode;

use foundry_proto::auth::v1::SignOutRequest;
use tonic::Code;

use crate::cli::{Global, Output};
use crate::client::Gateway;
use crate::credentials::Credentials;
use crate::failure::Failure;
use crate::output;

/// Ends the session that `foundry login` has stored.
///
/// # Errors
/// When there is none, when a token is given in another way, and when the mesh does not end the session.
pub async fn run(global: &Global) -> Result<ExitCode, Failure> {
    if global.token.is_some() {
        let text =
            "the token of FOUNDRY_TOKEN or --token is no session of `foundry login`; nothing was ended";
        return Err(Failure::new(text)
            .next("run `foundry logout` without that token to end the stored session; `foundry token revoke` revokes tokens")
            .exit(2));
    }
    let credentials = Credentials::of_user()?;
    let Some(stored) = credentials.get(&global.address)? else {
        return Err(Failure::new(format!("not signed in to {}", global.address)).exit(3));
    };
    let stored = Global { token: Some(stored.token), ..global.clone() };
    match Gateway::signed_in(&stored)?.auth().sign_out(SignOutRequest {}).await {
        Ok(_) => {}
        // It has ended already.
        Err(status) if status.code() == Code::Unauthenticated => {}
        Err(status) => {
            let mut failure = Failure::from(status);
            failure.message = format!("you are still signed in: {}", failure.message);
            return Err(failure);
        }
    }
    credentials.remove(&global.address)?;
    match global.output {
        Output::Table => output::line(&format!("signed out of {}", global.address)),
        Output::Json => output::line(&serde_json::json!({ "signed_out_of": global.address }).to_string()),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    #[tokio::test]
    async fn a_token_that_was_not_stored_ends_no_stored_session() {
        let args = ["foundry", "logout", "--token", "x", "--address", "http://127.0.0.1:1"];
        let run = crate::commands::run(Cli::parse_from(args), crate::no_further_providers());
        let failure = run.await.unwrap_err();
        assert!(failure.message.contains("nothing was ended") && failure.code == 2, "{failure:?}");
    }
}
