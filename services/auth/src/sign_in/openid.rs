//! What is known of an OpenID Connect provider: its discovery document and its keys, fetched in the background.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use foundry_core::{Error, Result, Timestamp};
use oauth2::{AsyncHttpClient as _, HttpRequest};
use openidconnect::IssuerUrl;
use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{AdditionalProviderMetadata, JsonWebKey as _, ProviderMetadata};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::config::keeps_secrets;
use super::http::Http;
use super::id_token::{Unverified, Verified};
use super::{invalid_token, unreachable};
use crate::domain::account::{Identified, plain_text};

/// How old the documents may become before they are fetched again.
const FRESH: Duration = Duration::from_secs(3600);
/// Shortest time between two fetches, also when tokens name keys that nobody knows.
const BETWEEN: Duration = Duration::from_secs(60);

/// What a discovery document says besides what the library reads.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Promises {
    /// Whether each return names its sender (RFC 9207).
    #[serde(default, rename = "authorization_response_iss_parameter_supported")]
    names_sender: bool,
}

impl AdditionalProviderMetadata for Promises {}

/// A discovery document with its keys.
pub(crate) type Documents = ProviderMetadata<
    Promises,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// The documents of a provider.
pub(crate) struct OpenId {
    issuer: String,
    known: ArcSwapOption<Known>,
    last_attempt: Mutex<Option<Timestamp>>,
}

struct Known {
    provider: Documents,
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
    pub(crate) fn provider(&self) -> Result<Documents> {
        let known = self.known.load_full();
        known
            .map(|known| known.provider.clone())
            .ok_or_else(|| unreachable("its documents are not fetched yet"))
    }

    /// Whether the provider has promised to name itself in each return.
    pub(crate) fn names_sender(&self) -> bool {
        self.known.load().as_ref().is_some_and(|known| known.provider.additional_metadata().names_sender)
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
        let fetched = Documents::discover_async(issuer, http).await;
        let provider = fetched.map_err(|e| {
            let cause = std::error::Error::source(&e).map(|cause| format!(": {cause}")).unwrap_or_default();
            unreachable(&format!("{e}{cause}"))
        })?;
        check_endpoints(&provider)?;
        self.known.store(Some(Arc::new(Known { provider, fetched_at: now })));
        Ok(())
    }

    /// Verifies an ID token. A key that is not known makes the documents be fetched again, at most once a minute.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` `ID_TOKEN_INVALID` for a token that does not prove who the user is.
    pub(crate) async fn verify(
        &self,
        http: &Http,
        (token, client_id, nonce): (&str, &str, &str),
        now: Timestamp,
    ) -> Result<Verified> {
        let unverified = Unverified::parse(token).map_err(|why| invalid_token(&why))?;
        let mut provider = self.provider()?;
        let knows = |provider: &Documents, id: &str| {
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

/// Checks that no code, secret, key or token goes to or comes from an address in the clear.
fn check_endpoints(provider: &Documents) -> Result<()> {
    let endpoints = [
        ("authorization_endpoint", Some(provider.authorization_endpoint().url())),
        ("token_endpoint", provider.token_endpoint().map(|at| at.url())),
        ("jwks_uri", Some(provider.jwks_uri().url())),
        ("userinfo_endpoint", provider.userinfo_endpoint().map(|at| at.url())),
    ];
    match endpoints.iter().find(|(_, url)| url.is_some_and(|url| !keeps_secrets(url))) {
        Some((name, _)) => Err(unreachable(&format!("its `{name}` is no https:// address"))),
        None => Ok(()),
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
        add(&mut all, more)?;
    }
    Ok(of_claims(&openid.issuer, verified.claims.subject(), &all))
}

/// Adds what the user info says to the claims of a token without an address.
fn add(all: &mut Map<String, Value>, more: Map<String, Value>) -> Result<()> {
    if more.get("sub") != all.get("sub") {
        return Err(invalid_token("the user info is about another subject"));
    }
    // Whether an address is verified is said by what names the address; by Entra's own claim, in the token alone.
    all.remove("email_verified");
    all.remove(ENTRA_VERIFIED);
    for (name, value) in more.into_iter().filter(|(name, _)| name != ENTRA_VERIFIED) {
        all.entry(name).or_insert(value);
    }
    Ok(())
}

fn of_claims(issuer: &str, subject: &str, claims: &Map<String, Value>) -> Identified {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let email = text("email");
    let login = [text("preferred_username"), text("nickname"), email, text("name")];
    let is_verified = claims.get("email_verified") == Some(&Value::Bool(true))
        || is_entra(issuer) && claims.get(ENTRA_VERIFIED).is_some_and(is_yes);
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

/// Entra's optional claim that the owner of an address's domain is verified. It has no `email_verified`.
const ENTRA_VERIFIED: &str = "xms_edov";

fn is_entra(issuer: &str) -> bool {
    let hosts = [
        "https://login.microsoftonline.com/",
        "https://login.microsoftonline.us/",
        "https://sts.windows.net/",
    ];
    hosts.iter().any(|host| issuer.starts_with(host))
}

/// Entra sends this claim as a truth value, a number or a text, by the version of the token.
fn is_yes(value: &Value) -> bool {
    match value {
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_i64() == Some(1),
        Value::String(text) => text == "1" || text == "true",
        _ => false,
    }
}

/// At Entra the subject is another one for each application; tenant and object id name the person.
fn entra_subject(issuer: &str, claims: &Map<String, Value>) -> Option<String> {
    if !is_entra(issuer) {
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
    fn documents_that_would_send_secrets_in_the_clear_are_refused() {
        let check = |name: &str, address: &str| {
            let mut document = json!({
                "issuer": "https://id.corp",
                "authorization_endpoint": "https://id.corp/authorize?policy=a",
                "token_endpoint": "https://id.corp/token",
                "jwks_uri": "https://keys.corp/jwks",
                "userinfo_endpoint": "https://id.corp/me",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            });
            document[name] = address.into();
            check_endpoints(&serde_json::from_value(document).unwrap()).map_err(|e| e.reason())
        };
        for name in ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"] {
            assert_eq!(check(name, "https://elsewhere.corp/x"), Ok(()), "{name}");
            assert_eq!(check(name, "http://127.0.0.1:9/x"), Ok(()), "{name}");
            assert_eq!(check(name, "http://id.corp/x"), Err("SIGN_IN_PROVIDER_UNREACHABLE"), "{name}");
        }
    }

    #[test]
    fn an_address_is_verified_by_what_names_it_alone() {
        let email = |token: Value, info: Value| {
            let (mut all, Value::Object(more)) = (token.as_object().unwrap().clone(), info) else { panic!() };
            add(&mut all, more)
                .map(|()| of_claims("https://id.corp", "s", &all).email)
                .map_err(|e| e.reason())
        };
        let at = "ann@acme.example";
        let unverified = json!({ "sub": "s", "email": at });
        assert_eq!(email(json!({ "sub": "s", "email_verified": true }), unverified), Ok(String::new()));
        let verified = json!({ "sub": "s", "email": at, "email_verified": true });
        assert_eq!(email(json!({ "sub": "s" }), verified.clone()), Ok(at.to_owned()));
        assert_eq!(email(json!({ "sub": "other" }), verified), Err("ID_TOKEN_INVALID"));
    }

    #[test]
    fn at_entra_an_address_is_verified_by_its_own_claim_in_the_token() {
        const ENTRA: &str = "https://login.microsoftonline.com/t/v2.0";
        let at = "ann@acme.example";
        let email = |issuer: &str, verified: Value| {
            let claims = json!({ "sub": "s", "email": at, "xms_edov": verified });
            of_claims(issuer, "s", claims.as_object().unwrap()).email
        };
        for yes in [json!(true), json!(1), json!("1"), json!("true")] {
            assert_eq!(email(ENTRA, yes.clone()), at, "{yes}");
            assert_eq!(email("https://id.corp", yes), "", "elsewhere this claim means nothing");
        }
        for no in [json!(false), json!(0), json!("0"), json!("yes"), json!([true]), json!(null)] {
            assert_eq!(email(ENTRA, no.clone()), "", "{no}");
        }
        let merged = |token: Value, info: Value| {
            let (mut all, Value::Object(more)) = (token.as_object().unwrap().clone(), info) else { panic!() };
            add(&mut all, more).unwrap();
            of_claims(ENTRA, "s", &all).email
        };
        let named = json!({ "sub": "s", "email": at });
        assert_eq!(merged(json!({ "sub": "s", "xms_edov": true }), named), "", "of another address");
        let claimed = json!({ "sub": "s", "email": at, "xms_edov": true });
        assert_eq!(merged(json!({ "sub": "s" }), claimed), "", "and not in the user info");
    }

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
