//! Tokens of GitHub Apps: a private key signs who is asking, and the host gives a token for an hour in return.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Clock, Timestamp};
use foundry_secrets::Secret;
use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use crate::channel::{Channel, unusable};
use crate::github::headers;
use crate::{ForgeError, ForgeErrorKind, Forges, Place, Result};

/// How long a signed request is valid; the host takes at most ten minutes.
const SIGNED_FOR: Duration = Duration::from_secs(9 * 60);
/// The clock of the host may be behind by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Longest time for which a token is used, whatever the host says.
const LONGEST: Duration = Duration::from_secs(3600);
/// A token is not used for this long before its end, so that an operation does not outlive it.
const SPARED: Duration = Duration::from_secs(5 * 60);

/// An installation of a GitHub App in an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppInstallation {
    /// Id or client id of the app.
    pub app_id: String,
    /// Id of the installation.
    pub installation_id: u64,
}

/// A token of an installation.
#[derive(Clone, Debug)]
pub struct InstallationToken {
    /// The token, for git as a password and for the API.
    pub token: Secret,
    /// Until when it is used: five minutes before its end.
    pub use_until: Timestamp,
}

#[derive(Serialize)]
struct Claims<'a> {
    iat: i64,
    exp: i64,
    iss: &'a str,
}

#[derive(Deserialize)]
struct Given {
    token: String,
    expires_at: String,
}

/// Whether this is a private RSA key in PEM that can sign, as GitHub gives one out.
pub fn is_app_key(pem: &str) -> bool {
    EncodingKey::from_rsa_pem(pem.trim().as_bytes())
        .is_ok_and(|key| signed("", Timestamp::default(), &key).is_some())
}

fn signed(app_id: &str, now: Timestamp, key: &EncodingKey) -> Option<Secret> {
    let seconds = now.as_micros() / 1_000_000;
    let claims = Claims {
        iat: seconds.saturating_sub_unsigned(CLOCK_SKEW.as_secs()),
        exp: seconds.saturating_add_unsigned(SIGNED_FOR.as_secs()),
        iss: app_id,
    };
    jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, key).ok().map(Secret::new)
}

impl Forges {
    /// A new token of an installation, for the repository of the place alone. `key` is the private key of the app in PEM.
    ///
    /// # Errors
    /// `CredentialsRefused` when the host does not accept the key, `NotFound` without such an installation, `Rejected`
    /// when it does not include the repository.
    pub async fn installation_token(
        self: &Arc<Self>,
        place: &Place,
        app: &AppInstallation,
        key: &Secret,
        clock: Arc<dyn Clock>,
    ) -> Result<InstallationToken> {
        let now = clock.now();
        let pem = key.expose_str().unwrap_or_default().trim();
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).ok();
        let token = key.and_then(|key| signed(&app.app_id, now, &key)).ok_or_else(|| {
            ForgeError::new(ForgeErrorKind::CredentialsRefused, "the stored key of the app cannot sign")
        })?;
        let name = place.path.rsplit('/').next().unwrap_or_default();
        let body = serde_json::json!({ "repositories": [name] }).to_string();
        let path = format!("/app/installations/{}/access_tokens", app.installation_id);
        let channel = Channel::new(Arc::clone(self), place, token, clock);
        let answer = channel.call(Method::POST, &path, headers(), Bytes::from(body)).await?;
        let given: Given = channel.decoded(&answer).map_err(|e| match e.kind() {
            // The text could quote the token.
            ForgeErrorKind::Unusable => unusable("it has no token"),
            _ => e,
        })?;
        let usable = !given.token.is_empty() && given.token.bytes().all(|b| b.is_ascii_graphic());
        if !usable {
            return Err(unusable("it has no token"));
        }
        let ends =
            given.expires_at.parse::<prost_types::Timestamp>().map(|time| Timestamp::from_proto(&time));
        let ends = ends.map_err(|_| unusable("the token has no time of its end"))?.min(now.plus(LONGEST));
        let left = ends.since(now).saturating_sub(SPARED);
        Ok(InstallationToken { token: Secret::new(given.token), use_until: now.plus(left) })
    }
}
