//! What is known of an OpenID Connect provider: its discovery document and its keys, fetched in the background.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use foundry_core::{Error, Result, Timestamp};
use oauth2::{AsyncHttpClient as _, HttpRequest};
use openidconnect::IssuerUrl;
use openidconnect::JsonWebKey as _;
use openidconnect::core::CoreProviderMetadata;
use serde_json::{Map, Value};

use super::http::Http;
use super::id_token::{Unverified, Verified};
use super::{invalid_token, unreachable};
use crate::domain::account::{Identified, plain_text};

/// How old the documents may become before they are fetched again.
const FRESH: Duration = Duration::from_secs(3600);
/// Shortest time between two fetches, also when tokens name keys that nobody knows.
const BETWEEN: Duration = Duration::from_secs(60);

/// The documents of a provider.
pub(crate) struct OpenId {
    issuer: String,
    known: ArcSwapOption<Known>,
    last_attempt: Mutex<Option<Timestamp>>,
}

struct Known {
    provider: CoreProviderMetadata,
    fetched_at: Timestamp,
}

impl OpenId {
    pub(crate) fn new(issuer: &str) -> Self {
        Self { issuer: issuer.to_owned(), known: ArcSwapOption::empty(), last_attempt: Mutex::default() }
    }

    /// The documents as last fetched.
    ///
    /// # Errors
    /// `UNAVAILABLE` before the first fetch has succeeded.
    pub(crate) fn provider(&self) -> Result<CoreProviderMetadata> {
        let known = self.known.load_full();
        known
            .map(|known| known.provider.clone())
            .ok_or_else(|| unreachable("its documents are not fetched yet"))
    }

    /// Whether the documents are missing or old.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        self.known.load().as_ref().is_none_or(|known| now.since(known.fetched_at) >= FRESH)
    }

    /// Fetches the documents, unless that was tried within the last minute. What is known stays if it fails.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the provider does not answer with documents of this issuer.
    pub(crate) async fn fetch(&self, http: &Http, now: Timestamp) -> Result<()> {
        {
            let mut last = foundry_core::lock(&self.last_attempt);
            if last.is_some_and(|last| now.since(last) < BETWEEN) {
                return Ok(());
            }
            *last = Some(now);
        }
        let issuer = IssuerUrl::new(self.issuer.clone()).map_err(Error::internal)?;
        let fetched = CoreProviderMetadata::discover_async(issuer, http).await;
        let provider = fetched.map_err(|e| {
            let cause = std::error::Error::source(&e).map(|cause| format!(": {cause}")).unwrap_or_default();
            unreachable(&format!("{e}{cause}"))
        })?;
        self.known.store(Some(Arc::new(Known { provider, fetched_at: now })));
        Ok(())
    }

    /// Verifies an ID token. A key that is not known makes the documents be fetched again, at most once a minute.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` `ID_TOKEN_INVALID`.
    pub(crate) async fn verify(
        &self,
        http: &Http,
        (token, client_id, nonce): (&str, &str, &str),
        now: Timestamp,
    ) -> Result<Verified> {
        let unverified = Unverified::parse(token).map_err(|why| invalid_token(&why))?;
        let mut provider = self.provider()?;
        let knows = |provider: &CoreProviderMetadata, id: &str| {
            id.is_empty()
                || provider.jwks().keys().iter().any(|k| k.key_id().is_some_and(|k| k.as_str() == id))
        };
        if !knows(&provider, &unverified.key_id) {
            self.fetch(http, now).await?;
            provider = self.provider()?;
        }
        unverified.verify(&provider, client_id, nonce, now).map_err(|why| invalid_token(&why))
    }
}

/// Who the verified token is about. Some providers keep name and address out of the token: then they are asked for them.
///
/// # Errors
/// `UNAVAILABLE` when the provider does not answer, `UNAUTHENTICATED` when it answers about somebody else.
pub(crate) async fn identified(
    openid: &OpenId,
    http: &Http,
    verified: &Verified,
    access_token: &str,
) -> Result<Identified> {
    let mut all = verified.all.clone();
    if !all.contains_key("email")
        && let Some(more) = user_info(openid, http, access_token).await?
    {
        if more.get("sub") != all.get("sub") {
            return Err(invalid_token("the user info is about another subject"));
        }
        for (name, value) in more {
            all.entry(name).or_insert(value);
        }
    }
    Ok(of_claims(&openid.issuer, verified.claims.subject(), &all))
}

fn of_claims(issuer: &str, subject: &str, claims: &Map<String, Value>) -> Identified {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let email = text("email");
    let login = [text("preferred_username"), text("nickname"), email, text("name")];
    let is_verified = claims.get("email_verified") == Some(&Value::Bool(true));
    Identified {
        issuer: issuer.to_owned(),
        subject: entra_subject(issuer, claims).unwrap_or_else(|| subject.to_owned()),
        login: plain_text(login.into_iter().find(|text| !text.is_empty()).unwrap_or_default()),
        display_name: plain_text(text("name")),
        email: if is_verified { plain_text(email) } else { String::new() },
        picture_url: plain_text(text("picture")),
        groups: Vec::new(),
    }
}

/// What the provider says about the user besides the token; none where it has no such endpoint.
async fn user_info(openid: &OpenId, http: &Http, token: &str) -> Result<Option<Map<String, Value>>> {
    let provider = openid.provider()?;
    let Some(endpoint) = provider.userinfo_endpoint() else { return Ok(None) };
    let request = oauth2::http::Request::get(endpoint.as_str())
        .header("accept", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body(Vec::new());
    let request: HttpRequest = request.map_err(Error::internal)?;
    let answer = http.call(request).await.map_err(|e| unreachable(&e.to_string()))?;
    if answer.status().as_u16() != 200 {
        return Err(unreachable(&format!("its user info has status {}", answer.status().as_u16())));
    }
    serde_json::from_slice(answer.body()).map(Some).map_err(|_| unreachable("its user info cannot be read"))
}

/// At Entra the subject is another one for each application; tenant and object id name the person.
fn entra_subject(issuer: &str, claims: &Map<String, Value>) -> Option<String> {
    let hosts = [
        "https://login.microsoftonline.com/",
        "https://login.microsoftonline.us/",
        "https://sts.windows.net/",
    ];
    if !hosts.iter().any(|host| issuer.starts_with(host)) {
        return None;
    }
    let id = |name| claims.get(name).and_then(Value::as_str).filter(|id| !id.is_empty());
    Some(format!("{}/{}", id("tid")?, id("oid")?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_person_at_entra_is_tenant_and_object_id() {
        let claims = json!({ "tid": "t", "oid": "o", "sub": "s" });
        let claims = claims.as_object().unwrap();
        let entra = entra_subject("https://login.microsoftonline.com/t/v2.0", claims);
        assert_eq!(entra.as_deref(), Some("t/o"));
        assert_eq!(entra_subject("https://login.microsoftonline.com.evil.example/", claims), None);
        assert_eq!(entra_subject("https://id.corp", claims), None, "elsewhere these claims mean nothing");
    }
}
