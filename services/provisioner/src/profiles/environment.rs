//! Model providers from the environment of `foundry up --keys-from-env`: in memory only, the same for all
//! organizations of the mesh.

use foundry_core::{Env, Error, ModelProviderId, Timestamp};
use foundry_proto::common::v1::SecretText;
use foundry_proto::provisioner::v1 as proto;
use foundry_proto::provisioner::v1::credential::Secret as Given;
use foundry_proto::provisioner::v1::{ModelProviderKind, ModelProviderSource};
use sha2::{Digest as _, Sha256};

use crate::domain::{ModelProvider, Secrets, model_provider};

/// The providers: name, kind, variable of the key, variable of the base URL.
const READ: [(&str, ModelProviderKind, &str, &str); 3] = [
    ("env-anthropic", ModelProviderKind::Anthropic, "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    ("env-openai", ModelProviderKind::Openai, "OPENAI_API_KEY", "OPENAI_BASE_URL"),
    ("env-gemini", ModelProviderKind::Gemini, "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
];

/// All variables that are read.
pub const MODEL_VARIABLES: [&str; 6] = [READ[0].2, READ[0].3, READ[1].2, READ[1].3, READ[2].2, READ[2].3];

/// The model providers of the environment. Debug output shows no secret.
#[derive(Clone, Debug, Default)]
pub struct EnvironmentKeys(Vec<(ModelProvider, Secrets)>);

impl EnvironmentKeys {
    /// Reads the variables; a provider exists where its key or its base URL is set and not empty.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the variable whose value cannot be used, without the value.
    pub fn read(variable: impl Fn(&str) -> Option<String>, env: &Env) -> Result<Self, Error> {
        let now = env.clock.now();
        let mut found = Vec::new();
        for (name, kind, key, url) in READ {
            let set = |name: &str| variable(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
            let (key, url) = ((key, set(key)), (url, set(url)));
            if key.1.is_some() || url.1.is_some() {
                found.push(provider(name, kind, key, url, now)?);
            }
        }
        Ok(Self(found))
    }

    /// The names of the variables that were set and used.
    pub fn taken(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|(provider, _)| provider.view.variables.iter().map(String::as_str))
    }

    /// All providers, by name.
    pub fn all(&self) -> impl Iterator<Item = &ModelProvider> {
        self.0.iter().map(|(provider, _)| provider)
    }

    /// The provider with this id.
    pub fn find(&self, id: &ModelProviderId) -> Option<&ModelProvider> {
        self.all().find(|provider| provider.model_provider_id == *id)
    }

    /// The secrets of the provider with this id.
    pub fn secrets(&self, id: &ModelProviderId) -> Option<&Secrets> {
        self.0.iter().find(|(provider, _)| provider.model_provider_id == *id).map(|(_, secrets)| secrets)
    }
}

/// An id that is the same after each start, so that profiles can refer to it.
fn id_of(name: &str) -> Result<ModelProviderId, Error> {
    let digest = hex::encode(Sha256::digest(format!("model provider of the environment: {name}")));
    format!("{}_{}", ModelProviderId::PREFIX, &digest[..32]).parse()
}

fn provider(
    name: &str,
    kind: ModelProviderKind,
    (key_variable, key): (&str, Option<String>),
    (url_variable, url): (&str, Option<String>),
    now: Timestamp,
) -> Result<(ModelProvider, Secrets), Error> {
    let unusable = |variable: &str, e: &Error| {
        let why = e.violations().first().map_or("cannot be used", |v| v.description.as_str());
        Error::invalid_field(variable, why)
    };
    let id = id_of(name)?;
    let base_url = model_provider::base_url(kind, url.as_deref().unwrap_or_default())
        .map_err(|e| unusable(url_variable, &e))?;
    // Servers other than OpenAI's own rarely support its newest API.
    let elsewhere = base_url != model_provider::default_url(kind);
    let kind = match kind {
        ModelProviderKind::Openai if elsewhere => ModelProviderKind::OpenaiCompatible,
        kind => kind,
    };
    let mut secrets = Secrets::default();
    let mut variables = Vec::new();
    let credential = match key {
        None => proto::CredentialStatus::default(),
        Some(key) => {
            variables.push(key_variable.to_owned());
            let key = Given::Key(SecretText { value: key });
            model_provider::credential(key, now, &mut secrets).map_err(|e| unusable(key_variable, &e))?
        }
    };
    if url.is_some() {
        variables.push(url_variable.to_owned());
    }
    let view = proto::ModelProvider {
        model_provider_id: id.to_string(),
        name: name.to_owned(),
        kind: kind.into(),
        base_url,
        credential: Some(credential),
        source: ModelProviderSource::Environment.into(),
        variables,
        create_time: Some(now.to_proto()),
        update_time: Some(now.to_proto()),
        ..proto::ModelProvider::default()
    };
    Ok((ModelProvider { model_provider_id: id, organization_id: None, view, sealed: None }, secrets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<EnvironmentKeys, Error> {
        let value = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        EnvironmentKeys::read(value, &Env::system())
    }

    #[test]
    fn takes_keys_and_urls_and_prints_names_only() {
        let keys = read(&[
            ("ANTHROPIC_API_KEY", "sk-ant-canary-0123456789"),
            ("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1/"),
            ("GEMINI_API_KEY", " "),
        ])
        .unwrap();
        assert_eq!(keys.taken().collect::<Vec<_>>(), ["ANTHROPIC_API_KEY", "OPENAI_BASE_URL"]);
        let all: Vec<_> = keys.all().collect();
        assert_eq!(
            (all[0].view.name.as_str(), all[0].view.kind()),
            ("env-anthropic", ModelProviderKind::Anthropic)
        );
        assert_eq!(all[1].view.kind(), ModelProviderKind::OpenaiCompatible);
        assert_eq!(all[1].view.base_url, "http://127.0.0.1:11434/v1");
        assert!(!all[1].view.credential.as_ref().unwrap().has_key);
        let printed = format!("{keys:?}");
        assert!(!printed.contains("canary"), "{printed}");
        let again = read(&[("ANTHROPIC_API_KEY", "other-0123456789")]).unwrap();
        assert_eq!(again.all().next().unwrap().model_provider_id, all[0].model_provider_id);
    }

    #[test]
    fn names_the_variable_that_cannot_be_used_without_its_value() {
        let error = read(&[("GOOGLE_GEMINI_BASE_URL", "https://u:canary@x")]).unwrap_err();
        assert!(error.message().contains("GOOGLE_GEMINI_BASE_URL"), "{error}");
        let key = read(&[("OPENAI_API_KEY", "canary with spaces")]).unwrap_err();
        assert!(key.message().contains("OPENAI_API_KEY"), "{key}");
        assert!(!format!("{error:?}{key:?}").contains("canary"));
        assert_eq!(read(&[]).unwrap().all().count(), 0);
    }
}
