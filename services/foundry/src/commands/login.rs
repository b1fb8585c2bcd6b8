//! `foundry login`: by a browser or a code, or with the development sign-in of a mesh on this machine.

mod browser;
mod device;
mod program;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use foundry_proto::auth::v1::complete_sign_in_request::Proof;
use foundry_proto::auth::v1::{CompleteSignInRequest, DevelopmentProof, ListSignInWaysRequest};
use tonic::Code;
use url::{Url, form_urlencoded};

use crate::cli::login::Login;
use crate::cli::{Global, Output};
use crate::client::Gateway;
use crate::commands::mesh;
use crate::credentials::{Credential, Credentials};
use crate::failure::Failure;
use crate::output;

/// Signs in as asked, or in the way that the mesh is configured for.
pub async fn run(global: &Global, how: Login) -> Result<ExitCode, Failure> {
    if how.device {
        return device::run(global).await;
    }
    if how.browser {
        return browser::run(global).await;
    }
    let ways = Gateway::anonymous(global)?.auth().list_sign_in_ways(ListSignInWaysRequest {}).await;
    let ways = match ways {
        Ok(ways) => ways.into_inner(),
        // What the configuration decides can be printed before the mesh runs.
        Err(status) if how.web && status.code() == Code::Unavailable => {
            let config = mesh::config(global)?;
            return match config.auth.sign_in.is_empty() {
                true => print_link(global, how.login),
                false => print_page(global, &config.gateway.public_url),
            };
        }
        Err(status) => return Err(status.into()),
    };
    match (ways.ways.is_empty(), how.web) {
        (true, true) => print_link(global, how.login),
        (true, false) => development(global, how.login).await,
        (false, true) => print_page(global, &ways.public_url),
        (false, false) if how.login.is_some() => {
            let text = "--login is for the development sign-in, and this mesh has an identity provider";
            Err(Failure::new(text).next("run `foundry login` without it, and sign in in the browser").exit(2))
        }
        (false, false) => browser::run(global).await,
    }
}

/// Prints where browsers sign in at an identity provider.
fn print_page(global: &Global, public_url: &str) -> Result<ExitCode, Failure> {
    let page = if public_url.is_empty() { &*global.address } else { public_url };
    let link = format!("{}/sign-in", page.trim_end_matches('/'));
    match global.output {
        Output::Table => output::line(&link),
        Output::Json => output::line(&serde_json::json!({ "link": link }).to_string()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a link that signs in to the workbench. Browsers do not send the part after `#` to any server.
fn print_link(global: &Global, login: Option<String>) -> Result<ExitCode, Failure> {
    let (path, secret) = secret(global)?;
    let link = link(&global.address, &secret, login.as_deref(), global.organization.as_deref())?;
    match global.output {
        Output::Table => output::line(&link),
        Output::Json => output::line(&serde_json::json!({ "link": link, "secret_file": path }).to_string()),
    }
    eprintln!("The link contains the secret from {}. Do not share it.", path.display());
    Ok(ExitCode::SUCCESS)
}

fn link(
    address: &str,
    secret: &str,
    login: Option<&str>,
    organization: Option<&str>,
) -> Result<String, Failure> {
    let malformed = || Failure::new(format!("{address} is not a valid gateway address")).exit(2);
    let mut link = Url::parse(address).map_err(|_| malformed())?;
    if !matches!(link.scheme(), "http" | "https") {
        return Err(malformed());
    }
    let mut fragment = form_urlencoded::Serializer::new(String::new());
    fragment.append_pair("secret", secret);
    fragment.extend_pairs(login.map(|l| ("login", l)));
    // The sign-in takes an organization's name, not its id.
    fragment.extend_pairs(organization.filter(|o| !o.starts_with("org_")).map(|o| ("organization", o)));
    link.set_path("/sign-in");
    link.set_query(None);
    link.set_fragment(Some(&fragment.finish()));
    Ok(link.into())
}

/// The path and the content of the secret file in the data directory.
fn secret(global: &Global) -> Result<(PathBuf, String), Failure> {
    let path = secret_file(&mesh::data_dir(global)?);
    let secret = std::fs::read_to_string(&path).map_err(|e| {
        Failure::new(format!("{}: {e}", path.display()))
            .next(
                "start the mesh with `foundry up` as this user, pass its --data-dir, or sign in by a browser with \
                 `foundry login --device`",
            )
            .exit(3)
    })?;
    Ok((path, secret.trim().to_owned()))
}

/// Path of the development sign-in's secret in a data directory.
pub fn secret_file(data_dir: &Path) -> PathBuf {
    data_dir.join("auth").join(foundry_auth::DEVELOPMENT_SECRET_FILE)
}

/// Path of the secret for the first owner in a data directory; none when there is none: with an owner, or without an
/// identity provider.
pub fn set_up_file(data_dir: &Path) -> Option<PathBuf> {
    Some(data_dir.join("auth").join(foundry_auth::SET_UP_SECRET_FILE)).filter(|path| path.exists())
}

/// Signs in with the secret of the data directory, and stores the session's token.
async fn development(global: &Global, login: Option<String>) -> Result<ExitCode, Failure> {
    let (_, secret) = secret(global)?;
    let login = login.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "developer".to_owned());
    let proof = DevelopmentProof {
        secret,
        login,
        organization_name: global.organization.clone().unwrap_or_default(),
    };
    let request = CompleteSignInRequest {
        proof: Some(Proof::Development(proof)),
        device: format!("{} on {}", program::NAME, program::machine()),
        ..Default::default()
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_carries_the_secret_where_no_server_sees_it() {
        let plain = link("http://127.0.0.1:7100", "abc-_", None, None).unwrap();
        assert_eq!(plain, "http://127.0.0.1:7100/sign-in#secret=abc-_");
        let named = link("https://foundry.example/x?y=z", "abc", Some("ada"), Some("acme")).unwrap();
        assert_eq!(named, "https://foundry.example/sign-in#secret=abc&login=ada&organization=acme");
        let hostile = link("http://127.0.0.1:7100", "a", Some("x&secret=b#c"), Some("org_1")).unwrap();
        assert_eq!(hostile, "http://127.0.0.1:7100/sign-in#secret=a&login=x%26secret%3Db%23c");
        for bad in ["", "127.0.0.1:7100", "javascript:alert(1)", "file:///x"] {
            assert!(link(bad, "a", None, None).is_err(), "{bad}");
        }
    }
}
