//! A GitHub App at the stand-in: it checks what the key of the app has signed, and gives tokens of its installation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Said, State};
use crate::GitHttp;
use crate::git_http::Request;

/// The private key of the app; it is used nowhere else.
pub const APP_KEY: &str = include_str!("app_key.pem");
const PUBLIC_KEY: &str = include_str!("app_key.pub.pem");
/// Longest validity of what an app signs, in seconds.
const LONGEST: i64 = 600;

/// An app, installed in one account.
#[derive(Clone, Debug)]
pub struct GitHubApp {
    /// Its id or client id.
    pub app_id: String,
    /// Id of the installation.
    pub installation_id: u64,
    /// Names of the repositories that the installation includes.
    pub repositories: Vec<String>,
    /// End of the tokens that it is given, as GitHub writes times.
    pub expires_at: String,
    /// Whether the account has suspended it.
    pub is_suspended: bool,
}

#[derive(Deserialize)]
struct Claims {
    iat: i64,
    exp: i64,
    iss: String,
}

/// Whether it is the call that needs the signature of an app, and takes no token.
pub(super) fn is_for_apps(request: &Request) -> bool {
    request.path.starts_with("/api/v3/app/")
}

/// Whether this is a token of the app that includes the repository in the path.
pub(super) fn has_token(state: &State, sent: &str, path: &str) -> bool {
    let name = path.split('/').nth(5).unwrap_or_default();
    let mut tokens = state.app_tokens.iter().filter(|(token, _)| !sent.is_empty() && token == sent);
    tokens.any(|(_, names)| names.iter().any(|it| it == name))
}

pub(super) fn answer(state: &mut State, request: &Request, sent: &str, git: &GitHttp) -> Said {
    let said = |status: u16, message: &str| {
        let docs = "https://docs.github.com/rest";
        let body = json!({ "message": message, "documentation_url": docs, "status": status.to_string() });
        (status, body, false)
    };
    let Some(app) = state.app.clone() else { return said(404, "Not Found") };
    if !is_signed(&app, sent) {
        return said(401, "A JSON web token could not be decoded");
    }
    let path = format!("/api/v3/app/installations/{}/access_tokens", app.installation_id);
    if request.method != "POST" || request.path != path {
        return said(404, "Not Found");
    }
    if app.is_suspended {
        return said(403, "This installation has been suspended");
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let wanted = body.get("repositories").and_then(Value::as_array);
    let names: Vec<String> = match wanted {
        Some(wanted) => wanted.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        None => app.repositories.clone(),
    };
    if names.iter().any(|name| !app.repositories.contains(name)) {
        let why = "There is at least one repository that does not exist or is not accessible to the parent installation.";
        return said(422, why);
    }
    let token = format!("ghs_canary{:032}", state.app_tokens.len());
    state.app_tokens.push((token.clone(), names));
    git.admit(&STANDARD.encode(format!("x-access-token:{token}")));
    let permissions = json!({ "contents": "write", "metadata": "read", "pull_requests": "write" });
    let body = json!({
        "token": token, "expires_at": app.expires_at, "permissions": permissions, "repository_selection": "selected",
    });
    (201, body, false)
}

fn is_signed(app: &GitHubApp, token: &str) -> bool {
    let Ok(key) = DecodingKey::from_rsa_pem(PUBLIC_KEY.as_bytes()) else { return false };
    let mut validation = Validation::new(Algorithm::RS256);
    // The time of the test is not that of this machine.
    validation.validate_exp = false;
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation).map(|it| it.claims);
    claims.is_ok_and(|it| it.iss == app.app_id && it.exp > it.iat && it.exp - it.iat <= LONGEST)
}
