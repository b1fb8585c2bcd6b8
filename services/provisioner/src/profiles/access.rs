//! A model provider with its secrets, for calls to it.

use foundry_core::Error;
use foundry_proto::provisioner::v1::{CredentialKind, ModelPrice, ModelProviderKind};
use foundry_secrets::Secret;

use super::vault;
use crate::domain::model_provider::{CREDENTIAL, HEADERS};
use crate::domain::{ModelProvider, Secrets, named};
use crate::shared::Shared;
use crate::store::model_providers::MODEL_PROVIDERS;

/// How to call a model provider. Debug output shows no secret.
#[derive(Clone, Debug)]
pub struct ModelAccess {
    /// Which API it speaks.
    pub kind: ModelProviderKind,
    /// The API's base URL, without a slash at the end.
    pub base_url: String,
    /// Headers that are added to each call.
    pub headers: Vec<(String, Secret)>,
    /// The credential of calls; none for a server that needs none.
    pub credential: Option<ModelCredential>,
    /// Models that may be used; empty = any.
    pub models: Vec<String>,
    /// Prices, where known.
    pub prices: Vec<ModelPrice>,
}

/// The credential of calls to a model provider.
#[derive(Clone, Debug)]
pub enum ModelCredential {
    /// An API key, in the header of the kind.
    Key(Secret),
    /// A bearer token.
    Bearer(Secret),
}

impl ModelCredential {
    /// The secret itself.
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Key(secret) | Self::Bearer(secret) => secret,
        }
    }
}

impl ModelAccess {
    /// How to call this provider.
    ///
    /// # Errors
    /// When its secrets cannot be decrypted.
    pub fn of(shared: &Shared, provider: &ModelProvider) -> Result<Self, Error> {
        let secrets = match shared.profiles.environment.secrets(&provider.model_provider_id) {
            Some(secrets) => secrets.clone(),
            None => {
                let id = provider.model_provider_id.as_str();
                vault::open(shared, &MODEL_PROVIDERS, id, provider.sealed.as_ref())?
            }
        };
        Ok(Self::with(provider, &secrets))
    }

    fn with(provider: &ModelProvider, secrets: &Secrets) -> Self {
        let view = &provider.view;
        let kind = view.credential.as_ref().map_or(CredentialKind::Unspecified, |c| c.kind());
        let credential = secrets.get(CREDENTIAL).cloned().map(|secret| match kind {
            CredentialKind::Bearer => ModelCredential::Bearer(secret),
            _ => ModelCredential::Key(secret),
        });
        Self {
            kind: view.kind(),
            base_url: view.base_url.clone(),
            headers: named::exposed(HEADERS, &view.headers, secrets),
            credential,
            models: view.models.clone(),
            prices: view.prices.clone(),
        }
    }

    /// A foreign text in which all secrets of this access are masked.
    pub fn scrub(&self, text: &str) -> String {
        let secrets = self.headers.iter().map(|(_, value)| value);
        let secrets = secrets.chain(self.credential.as_ref().map(ModelCredential::secret));
        secrets
            .filter_map(Secret::expose_str)
            .filter(|s| s.len() >= 4)
            .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}
