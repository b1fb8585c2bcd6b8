//! Identity providers: GitHub and OpenID Connect. Nothing here is called by a handler but [`Provider::authorization_url`],
//! which asks nobody.

pub(crate) mod config;
mod github;
mod http;
mod id_token;
mod openid;
mod tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{Code, Env, Error, Result, Timestamp};
use foundry_http_client::http_client;
use foundry_secrets::{Keys, Secret};
use oauth2::{
    AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, TokenUrl,
};

use crate::domain::account::Identified;
use crate::secret_file::SecretFile;
use config::{Kind, ProviderConfig, unusable};
use github::GitHub;
use http::Http;
use openid::OpenId;
pub(crate) use tokens::Tokens;

/// Name of the file in the data directory with the secret that makes the first owner.
pub(crate) const SET_UP_FILE: &str = "set-up.secret";
/// File of the key that encrypts tokens, in the data directory, unless others are configured.
const SECRETS_KEY_FILE: &str = "secrets.key";

/// The configured providers, and what the service keeps for them.
pub(crate) struct SignIn {
    pub(crate) providers: BTreeMap<String, Provider>,
    /// Encrypts tokens and verifiers.
    pub(crate) keys: Keys,
    /// The set-up secret, for as long as the set-up is to be done.
    pub(crate) set_up: SetUpSecret,
}

impl SignIn {
    /// Checks the configuration and reads the secrets of applications.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` that names the setting that cannot be used.
    pub(crate) async fn load(config: &crate::Config, data_dir: &Path, env: &Env) -> Result<Self> {
        let keys = Keys::load(&config.secret_keys, &data_dir.join(SECRETS_KEY_FILE), env).await?;
        let set_up = SetUpSecret { path: data_dir.join(SET_UP_FILE), known: Mutex::default() };
        let mut providers = BTreeMap::new();
        if config.sign_in.is_empty() {
            return Ok(Self { providers, keys, set_up });
        }
        let network = |e: foundry_http_client::ClientError| {
            Error::precondition("NETWORK_UNUSABLE", "auth.network", e.to_string())
        };
        let http = Http(http_client(&config.network).map_err(network)?);
        for (name, settings) in &config.sign_in {
            let provider = Provider::load(name, settings.clone(), http.clone()).await?;
            providers.insert(name.clone(), provider);
        }
        Ok(Self { providers, keys, set_up })
    }

    /// The provider of this name.
    ///
    /// # Errors
    /// `NOT_FOUND` for another name.
    pub(crate) fn provider(&self, name: &str) -> Result<&Provider> {
        self.providers.get(name).ok_or_else(|| {
            let text = "no identity provider of this name is configured";
            Error::new(Code::NotFound, "SIGN_IN_PROVIDER_UNKNOWN", text)
                .next_action("choose one of the ways that the sign-in page shows")
        })
    }
}

/// The secret that makes the first owner. Its file is there while the set-up is to be done: also when that becomes so
/// again, after the last owner with an account has gone.
pub(crate) struct SetUpSecret {
    path: PathBuf,
    /// As it was read last, with the attempts to guess it.
    known: Mutex<Option<Arc<SecretFile>>>,
}

impl SetUpSecret {
    /// Reads the file, or creates it.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when the file cannot be used.
    pub(crate) async fn secret(&self, env: &Env) -> Result<Arc<SecretFile>> {
        let (path, env) = (self.path.clone(), env.clone());
        let read = tokio::task::spawn_blocking(move || SecretFile::load_or_create(&path, &env));
        let read = read.await.map_err(Error::internal)??;
        let mut known = foundry_core::lock(&self.known);
        match known.as_ref() {
            Some(known) if known.is_same(&read) => Ok(known.clone()),
            _ => Ok(known.insert(Arc::new(read)).clone()),
        }
    }

    /// Removes the file. Its secret makes nobody an owner any more, whether it is there or not.
    pub(crate) async fn remove(&self) -> Result<()> {
        let path = self.path.clone();
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_file(path));
        if let Err(e) = removed.await.map_err(Error::internal)?
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(error = %e, "the file of the set-up secret cannot be removed");
        }
        Ok(())
    }
}

/// A configured provider.
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) settings: ProviderConfig,
    kind: Kind,
    secret: Secret,
    http: Http,
    openid: OpenId,
}

/// What an authorization request says, besides what is configured.
pub(crate) struct Request<'a> {
    pub(crate) state: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) verifier: &'a str,
    pub(crate) redirect_uri: &'a str,
}

/// Where a provider takes requests.
struct Endpoints {
    authorization: AuthUrl,
    token: TokenUrl,
    /// Whether it takes the secret of the application in the body only.
    secret_in_body: bool,
}

impl Provider {
    async fn load(name: &str, settings: ProviderConfig, http: Http) -> Result<Self> {
        let kind = settings.check(name)?;
        let source =
            settings.client_secret.as_ref().ok_or_else(|| unusable(name, "`client_secret` is missing"))?;
        let secret = source
            .secret()
            .await
            .map_err(|e| unusable(name, &format!("`client_secret`: {}", e.message())))?;
        let (title, openid) = (settings.title(name), OpenId::new(&settings.issuer));
        Ok(Self { name: name.to_owned(), title, settings, kind, secret, http, openid })
    }

    /// Whether it is GitHub.
    pub(crate) fn is_github(&self) -> bool {
        matches!(self.kind, Kind::GitHub { .. })
    }

    /// Fetches what is missing or old. GitHub has no such documents.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the provider does not answer.
    pub(crate) async fn refresh(&self, now: Timestamp) -> Result<()> {
        if self.kind == Kind::OpenId && self.openid.is_stale(now) {
            self.openid.fetch(&self.http, now).await
        } else {
            Ok(())
        }
    }

    fn endpoints(&self) -> Result<Endpoints> {
        let bad =
            |e: oauth2::url::ParseError| unreachable(&format!("its documents name no usable address: {e}"));
        match &self.kind {
            Kind::GitHub { origin, .. } => Ok(Endpoints {
                authorization: AuthUrl::new(format!("{origin}/login/oauth/authorize")).map_err(bad)?,
                token: TokenUrl::new(format!("{origin}/login/oauth/access_token")).map_err(bad)?,
                secret_in_body: true,
            }),
            Kind::OpenId => {
                use openidconnect::core::CoreClientAuthMethod::{ClientSecretBasic, ClientSecretPost};
                let provider = self.openid.provider()?;
                let methods = provider.token_endpoint_auth_methods_supported().cloned().unwrap_or_default();
                let token =
                    provider.token_endpoint().ok_or_else(|| unreachable("it has no token endpoint"))?;
                Ok(Endpoints {
                    authorization: AuthUrl::new(provider.authorization_endpoint().to_string())
                        .map_err(bad)?,
                    token: TokenUrl::new(token.to_string()).map_err(bad)?,
                    secret_in_body: methods.contains(&ClientSecretPost)
                        && !methods.contains(&ClientSecretBasic),
                })
            }
        }
    }

    /// The scopes that are asked for: no more than what the configured lists need.
    fn scopes(&self) -> Vec<Scope> {
        let names: &[&str] = match &self.kind {
            Kind::OpenId => &["openid", "profile", "email"],
            Kind::GitHub { .. }
                if self.settings.allow_organizations.is_empty() && self.settings.allow_teams.is_empty() =>
            {
                &["read:user", "user:email"]
            }
            Kind::GitHub { .. } => &["read:user", "user:email", "read:org"],
        };
        names.iter().map(|name| Scope::new((*name).to_owned())).collect()
    }

    /// The address to send a browser to.
    ///
    /// # Errors
    /// `UNAVAILABLE` while the documents of the provider are not known.
    pub(crate) fn authorization_url(&self, request: &Request<'_>) -> Result<String> {
        let verifier = PkceCodeVerifier::new(request.verifier.to_owned());
        let redirect = RedirectUrl::new(request.redirect_uri.to_owned()).map_err(Error::internal)?;
        let client = tokens::client(&self.settings.client_id).set_auth_uri(self.endpoints()?.authorization);
        let state = request.state.to_owned();
        let mut url = client
            .authorize_url(move || CsrfToken::new(state))
            .add_scopes(self.scopes())
            .set_redirect_uri(std::borrow::Cow::Owned(redirect))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        if !self.is_github() {
            url = url.add_extra_param("nonce", request.nonce.to_owned());
        }
        Ok(url.url().0.into())
    }

    /// Whether the sender that the return address names is this provider (RFC 9207). Many name none; those
    /// that have promised to must.
    pub(crate) fn is_sender(&self, issuer: &str) -> bool {
        match &self.kind {
            Kind::GitHub { .. } if issuer.is_empty() => true,
            Kind::OpenId if issuer.is_empty() => !self.openid.names_sender(),
            Kind::GitHub { origin, .. } => issuer == origin || issuer == format!("{origin}/login/oauth"),
            Kind::OpenId => issuer == self.settings.issuer,
        }
    }

    /// Exchanges a code for tokens. A provider takes a code once.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the provider does not answer, `UNAUTHENTICATED` when it refuses the code.
    pub(crate) async fn exchange(&self, code: &str, verifier: &str, redirect_uri: &str) -> Result<Tokens> {
        let endpoints = self.endpoints()?;
        let secret =
            self.secret.expose_str().ok_or_else(|| Error::internal("the client secret is no text"))?;
        tokens::exchange(&tokens::Exchange {
            http: &self.http,
            client_id: &self.settings.client_id,
            secret,
            token: endpoints.token,
            secret_in_body: endpoints.secret_in_body,
            code,
            verifier,
            redirect_uri,
        })
        .await
    }

    /// Who the tokens belong to.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the provider does not answer, `UNAUTHENTICATED` when what it says cannot be verified.
    pub(crate) async fn identify(&self, tokens: &Tokens, nonce: &str, now: Timestamp) -> Result<Identified> {
        match &self.kind {
            Kind::GitHub { origin, api } => {
                let github = GitHub { http: &self.http, origin, api, token: &tokens.access_token };
                github.identify(&self.settings.allow_organizations, &self.settings.allow_teams).await
            }
            Kind::OpenId => {
                let token = tokens.id_token.as_deref().ok_or_else(|| invalid_token("there is none"))?;
                let asked = (token, self.settings.client_id.as_str(), nonce);
                let verified = self.openid.verify(&self.http, asked, now).await?;
                openid::identified(&self.openid, &self.http, &verified, &tokens.access_token).await
            }
        }
    }
}

/// The provider gives no answer that can be used; it may later.
fn unreachable(why: &str) -> Error {
    tracing::warn!("an identity provider cannot be used: {why}");
    let text = "the identity provider does not answer as expected";
    Error::unavailable("SIGN_IN_PROVIDER_UNREACHABLE", text, Duration::from_secs(5))
        .next_action("try again in a moment; an operator finds the cause in the log of auth")
}

/// The provider did not take the code or its own token.
fn refused_code(why: &str) -> Error {
    tracing::warn!("an identity provider refused a sign-in: {why}");
    let text = "the identity provider refused to say who signed in";
    Error::new(Code::Unauthenticated, "SIGN_IN_CODE_REFUSED", text)
        .next_action("sign in again; if it happens again, an operator finds the cause in the log of auth")
}

/// The provider's ID token does not prove anything.
fn invalid_token(why: &str) -> Error {
    tracing::warn!("an ID token was refused: {why}");
    let text = "what the identity provider says about the user cannot be verified";
    Error::new(Code::Unauthenticated, "ID_TOKEN_INVALID", text)
        .next_action("sign in again; if it happens again, an operator finds the cause in the log of auth")
}

/// A client id as the libraries take it.
fn client_id(id: &str) -> ClientId {
    ClientId::new(id.to_owned())
}
