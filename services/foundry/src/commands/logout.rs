//! `foundry logout`: ends the stored session at the mesh, then forgets it.

use std::process::ExitCode;

use foundry_proto::auth::v1::SignOutRequest;
use tonic::Code;

use crate::cli::{Global, Output};
use crate::client::Gateway;
use crate::credentials::Credentials;
use crate::failure::Failure;
use crate::output;

/// Ends the session that `foundry login` has stored. A token that was given in another way is none, and stays valid.
pub async fn run(global: &Global) -> Result<ExitCode, Failure> {
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
