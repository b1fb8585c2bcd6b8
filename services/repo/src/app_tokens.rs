//! Tokens of GitHub Apps: each is for one repository and lives an hour; one that is still good is used again.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use foundry_core::{Error, RepositoryCredentialId, Result, lock};
use foundry_forge::{ForgeError, ForgeErrorKind, InstallationToken, Place};
use foundry_secrets::Secret;

use crate::context::Context;
use crate::domain::credential::Credential;

/// Tokens that are kept before those that have ended are dropped, and then all.
const MAX_KEPT: usize = 4_096;

/// Good tokens, in memory alone.
#[derive(Default)]
pub struct AppTokens(Mutex<HashMap<Key, InstallationToken>>);

/// A token of a credential is for one repository at one API.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    credential_id: RepositoryCredentialId,
    api: String,
    path: String,
}

impl Key {
    fn new(id: &RepositoryCredentialId, place: &Place) -> Self {
        Self { credential_id: id.clone(), api: place.api.to_string(), path: place.path.clone() }
    }
}

/// A token for one operation.
pub struct Given {
    pub token: Secret,
    /// Whether it was made for an earlier operation.
    pub is_kept: bool,
}

impl AppTokens {
    /// Forgets the tokens of a credential: they were refused, or are to be tested.
    pub fn forget(&self, id: &RepositoryCredentialId) {
        lock(&self.0).retain(|key, _| key.credential_id != *id);
    }

    /// Forgets the token for one repository, whose API has refused it.
    pub fn forget_for(&self, id: &RepositoryCredentialId, place: &Place) {
        lock(&self.0).remove(&Key::new(id, place));
    }
}

/// A token for the repository of a place, by the key of an app.
///
/// # Errors
/// `FAILED_PRECONDITION` when the host refuses the key or has no such installation; `UNAVAILABLE` when it does not answer.
pub async fn token(cx: &Context, credential: &Credential, place: &Place, key: &Secret) -> Result<Given> {
    let id = &credential.credential_id;
    let app = credential.app.as_ref().ok_or_else(|| Error::internal(format!("{id} names no app")))?;
    let kept = Key::new(id, place);
    let now = cx.env.clock.now();
    let known = lock(&cx.app_tokens.0).get(&kept).filter(|it| now < it.use_until).map(|it| it.token.clone());
    if let Some(token) = known {
        return Ok(Given { token, is_kept: true });
    }
    let made = cx.forges.installation_token(place, app, key, cx.env.clock.clone()).await;
    let made = made.map_err(|e| failed(&e, id.as_str()))?;
    let token = made.token.clone();
    let mut all = lock(&cx.app_tokens.0);
    if all.len() >= MAX_KEPT {
        all.retain(|_, it| now < it.use_until);
    }
    if all.len() >= MAX_KEPT {
        all.clear();
    }
    all.insert(kept, made);
    Ok(Given { token, is_kept: false })
}

fn failed(e: &ForgeError, id: &str) -> Error {
    let said = e.message();
    match e.kind() {
        ForgeErrorKind::CredentialsRefused | ForgeErrorKind::Forbidden => {
            let text = format!("the host refuses the key of the GitHub App: {said}");
            Error::precondition("GITHUB_APP_REFUSED", id, text)
        }
        ForgeErrorKind::NotFound | ForgeErrorKind::Rejected => {
            let text = format!("the installation of the GitHub App does not include the repository: {said}");
            Error::precondition("GITHUB_APP_NOT_INSTALLED", id, text)
        }
        ForgeErrorKind::RateLimited(_) | ForgeErrorKind::Unreachable | ForgeErrorKind::Unusable => {
            Error::unavailable(e.reason(), said, Duration::from_secs(10))
        }
    }
}
