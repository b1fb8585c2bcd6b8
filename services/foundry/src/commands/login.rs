//! `foundry login`: the development sign-in of a mesh on this machine, here or in a browser.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use foundry_proto::auth::v1::complete_sign_in_request::Proof;
use foundry_proto::auth::v1::{
    CompleteSignInRequest, DevelopmentProof, ListSignInWaysRequest, ListSignInWaysResponse,
};
use url::{Url, form_urlencoded};

use crate::cli::{Global, Output};
use crate::client::Gateway;
use crate::commands::mesh;
use crate::credentials::{Credential, Credentials};
use crate::failure::Failure;
use crate::output;

/// Prints a link that signs in to the workbench. Browsers do not send the part after `#` to any server.
///
/// # Errors
/// When the secret cannot be read, or the mesh has identity providers: then a link with the secret is worth nothing.
pub async fn print_link(global: &Global, login: Option<String>) -> Result<ExitCode, Failure> {
    // Without an answer, the link is that of a mesh that is started later.
    if let Ok(ways) = Gateway::anonymous(global)?.auth().list_sign_in_ways(ListSignInWaysRequest {}).await {
        usable(&global.address, &ways.into_inner())?;
    }
    let (path, secret) = secret(global)?;
    let link = link(&global.address, &secret, login.as_deref(), global.organization.as_deref())?;
    match global.output {
        Output::Table => output::line(&link),
        Output::Json => output::line(&serde_json::json!({ "link": link, "secret_file": path }).to_string()),
    }
    eprintln!("The link contains the secret from {}. Do not share it.", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Whether the development sign-in is enabled.
fn usable(address: &str, ways: &ListSignInWaysResponse) -> Result<(), Failure> {
    if ways.development {
        return Ok(());
    }
    let names: Vec<String> = ways.ways.iter().map(|way| output::inert(&way.title)).collect();
    let with = if names.is_empty() { String::new() } else { format!(" with {}", names.join(", ")) };
    Err(Failure::new("the development sign-in of this mesh is off, so there is no link that signs in")
        .next(format!("sign in in the browser{with}: {}/sign-in", address.trim_end_matches('/')))
        .exit(2))
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
            .next("start the mesh with `foundry up` as this user, or pass its --data-dir")
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
pub async fn run(global: &Global, login: Option<String>) -> Result<ExitCode, Failure> {
    let (_, secret) = secret(global)?;
    let login = login.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "developer".to_owned());
    let proof = DevelopmentProof {
        secret,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_a_provider_there_is_no_link_but_the_address_of_the_page() {
        let way = foundry_proto::auth::v1::SignInWay { title: "GitHub".into(), ..Default::default() };
        let off = ListSignInWaysResponse { ways: vec![way], ..Default::default() };
        let refused = usable("https://foundry.example/", &off).unwrap_err();
        assert_eq!(
            refused.next_action,
            "sign in in the browser with GitHub: https://foundry.example/sign-in"
        );
        assert!(usable("x", &ListSignInWaysResponse { development: true, ..Default::default() }).is_ok());
    }

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
