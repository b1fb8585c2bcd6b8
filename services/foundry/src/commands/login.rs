//! `foundry login`: the development sign-in of a mesh on this machine.

use std::process::ExitCode;

use foundry_proto::auth::v1::complete_sign_in_request::Proof;
use foundry_proto::auth::v1::{CompleteSignInRequest, DevelopmentProof};

use crate::cli::Global;
use crate::client::Gateway;
use crate::commands::mesh;
use crate::credentials::{Credential, Credentials};
use crate::failure::Failure;
use crate::output;

/// Name of the secret's file in the data directory.
const SECRET_FILE: &str = "auth/dev-sign-in.secret";

/// Signs in with the secret of the data directory and remembers the session's token.
pub async fn run(global: &Global, login: Option<String>) -> Result<ExitCode, Failure> {
    let path = mesh::data_dir(global)?.join(SECRET_FILE);
    let secret = std::fs::read_to_string(&path).map_err(|e| {
        Failure::new(format!("{}: {e}", path.display()))
            .next("start the mesh with `foundry up` as this user, or pass its --data-dir")
            .exit(3)
    })?;
    let login = login.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "developer".to_owned());
    let proof = DevelopmentProof {
        secret: secret.trim().to_owned(),
        login,
        organization_name: global.organization.clone().unwrap_or_default(),
    };
    let request = CompleteSignInRequest { proof: Some(Proof::Development(proof)), ..Default::default() };
    let answer = Gateway::anonymous(global)?.auth().complete_sign_in(request).await?.into_inner();
    let organization = answer.organization.clone().unwrap_or_default();
    let credential = Credential {
        token: answer.session_token.clone(),
        organization_id: organization.organization_id.clone(),
    };
    Credentials::of_user()?.put(&global.address, credential)?;
    let user = answer.user.clone().unwrap_or_default();
    output::one(global.output, &user, |user| {
        output::line(&format!(
            "signed in to {} as {}, organization {}",
            global.address, user.login, organization.name
        ));
    })?;
    Ok(ExitCode::SUCCESS)
}
